#include "system/short_space.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

#include "base/fatal.h"
#include "base/process.h"
#include "config/options.h"
#include "system/arenas.h"
#include "system/jemalloc.h"
#include "system/kernel.h"
#include "system/own_mappings.h"

namespace jemalloc_lua {
namespace {

std::atomic<bool> is_short{false};

// Left to others: LuaJIT ends the process where its machine code can't be made writable again; and jemalloc
// must not fail between two steps.
constexpr std::size_t kept_free = std::size_t{1} << 20;
constexpr std::size_t kept_for_records = std::size_t{4} << 20;

bool is_bounded(__rlimit_resource_t resource) {
    rlimit limit{};
    return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

// What is being stretched, under the process's lock. The hooks look at it if they run on the same thread.
std::atomic<pthread_t> stretcher{};
struct {
    void *from;
    std::size_t old_size;
    std::size_t new_size;
    void *at;  // a mapping that jemalloc does not know
    std::size_t size;
} work;

bool is_stretcher() {
    return stretcher.load(std::memory_order_relaxed) == pthread_self();
}

bool can_map(std::size_t bytes) {
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (room == MAP_FAILED) return false;
    munmap(room, bytes);
    return true;
}

// Frees the block. Whether jemalloc has given it up, so that `work` has its mapping.
bool vacate(void *block, std::size_t old_size, std::size_t new_size, int free_flags) {
    work = {block, old_size, new_size, nullptr, 0};
    je::sdallocx(block, old_size, free_flags);
    return work.at != nullptr;
}

// Makes the mapping at hand a block of jemalloc's, or moves its contents into one. A mapping that has not
// grown must stay where it is: jemalloc is asked until it has nothing else.
void *settle(int flags, std::size_t contents, bool must_stay) {
    std::array<void *, 64> others;
    std::size_t count = 0;
    const std::size_t size = work.size;
    void *block = nullptr;
    for (;;) {
        void *mapping = work.at;
        block = je::mallocx(size, flags);
        if (block == nullptr) fatal("no memory for the record of a block of %zu bytes that has moved", size);
        if (block == mapping) break;
        if (!must_stay || count == others.size()) {
            std::memcpy(block, mapping, contents);
            munmap(mapping, size);
            work.at = nullptr;
            break;
        }
        others[count++] = block;
    }
    while (count > 0) je::sdallocx(others[--count], size, je::no_tcache_flag | je::align_flag(page_size()));
    return block;
}

// Tries it once with a block that holds nothing, as soon as there is one.
bool jemalloc_gives_up(unsigned index) {
    static bool is_known = false;
    static bool does = false;
    if (is_known) return does;
    constexpr std::size_t size = std::size_t{5} << 19;  // larger than what jemalloc maps to retain
    const int free_flags = je::no_tcache_flag | je::align_flag(page_size());
    void *block = je::mallocx(size, free_flags | je::arena_flag(index));
    if (block == nullptr) return false;
    if (!own_mappings::has(block, size)) {
        je::sdallocx(block, size, free_flags);
        return false;
    }
    is_known = true;
    does = vacate(block, size, size, free_flags);
    if (does) munmap(work.at, work.size);
    work.at = nullptr;
    return does;
}

// A mapping must begin at a multiple of the largest slab's size (mappings.h), which mremap() does not know.
// So it is made longer by that, and its contents move within, where they must.
void *stretch_mapping(void *from, std::size_t old_size, std::size_t new_size) {
    if (mremap(from, old_size, new_size, 0) != MAP_FAILED) return from;
    void *moved = mremap(from, old_size, new_size + max_slab, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) return nullptr;
    char *all = static_cast<char *>(moved);
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(all) % max_slab;
    if (before != 0) {
        std::memmove(all + before, all, old_size);
        munmap(all, before);
    }
    munmap(all + before + new_size, max_slab - before);
    return all + before;
}

}  // namespace

bool is_space_bounded() {
    if (is_short.load(std::memory_order_relaxed)) return true;
    if (!is_bounded(RLIMIT_AS) && !is_bounded(RLIMIT_DATA)) return false;
    is_short.store(true, std::memory_order_relaxed);
    return true;
}

bool is_space_short() {
    return is_short.load(std::memory_order_relaxed);
}

Stretched stretch(void *block, std::size_t old_size, std::size_t new_size, unsigned index, int flags,
                  int free_flags) {
    if (!own_mappings::has(block, old_size)) return {nullptr, false};
    const KeepErrno keep;
    const std::lock_guard guard(process_lock);
    if (!gives_up_at_once(index)) return {nullptr, false};
    if (!can_map(new_size - old_size + kept_for_records)) return {block, false};
    stretcher.store(pthread_self(), std::memory_order_relaxed);
    Stretched result{nullptr, false};
    if (jemalloc_gives_up(index)) {
        if (!vacate(block, old_size, new_size, free_flags))
            fatal("jemalloc has kept an extent of %zu bytes that it was to give up", old_size);
        const bool grown = work.size == new_size;
        result = {settle(flags | je::align_flag(page_size()), old_size, !grown), grown};
    }
    stretcher.store(pthread_t{}, std::memory_order_relaxed);
    return result;
}

bool has_room(std::size_t bytes) {
    const KeepErrno keep;
    return can_map(bytes + kept_free);
}

void *mapping_at_hand(std::size_t size) {
    if (!is_stretcher() || work.at == nullptr || work.size != size) return nullptr;
    void *ptr = work.at;
    work.at = nullptr;
    return ptr;
}

bool stretch_given_up(void *ptr, std::size_t size) {
    if (!is_stretcher() || ptr != work.from || size != work.old_size) return false;
    void *at = stretch_mapping(ptr, work.old_size, work.new_size);
    const bool stretched = at != nullptr;
    work.at = stretched ? at : ptr;
    work.size = stretched ? work.new_size : work.old_size;
    work.from = nullptr;
    return true;
}

}  // namespace jemalloc_lua
