#include "system/kernel.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/process.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace jemalloc_lua {
namespace {

std::atomic<bool> moves_pages = true;
std::atomic<bool> populates = true;

// Whether an error says that the kernel, or a filter of system calls, will never do what was asked.
bool is_lacking(int error) {
    return error == EINVAL || error == ENOSYS || error == EPERM || error == EACCES;
}

// Where so many bytes can be mapped, from the start of a page table on; null: anywhere. No more than a hint:
// it may be taken by then.
void *find_room(std::size_t bytes) {
    const std::size_t more = bytes + huge_page;
    void *room = mmap(nullptr, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return nullptr;
    munmap(room, more);
    const auto address = reinterpret_cast<std::uintptr_t>(room);
    return reinterpret_cast<void *>((address + huge_page - 1) & ~(huge_page - 1));
}

char *page_of(const void *address) {
    return reinterpret_cast<char *>(reinterpret_cast<std::uintptr_t>(address) & ~(page_size() - 1));
}

void advise(void *ptr, std::size_t bytes, int advice) {
    if (bytes < huge_page) return;
    const KeepErrno keep;
    madvise(ptr, bytes / huge_page * huge_page, advice);
}

}  // namespace

std::size_t page_size() {
    static constinit Once<std::size_t> size;
    return size.get([] { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); });
}

bool kernel_moves_pages() {
    return moves_pages.load(std::memory_order_relaxed);
}

// The pages go by way of a mapping of our own, because an mremap() onto a fixed address first unmaps what is
// there, and must not fail after that: another thread could be given the hole. Whatever may fail is done
// before, and what is put in place at last is one whole mapping, so that the next move finds a single one
// (mremap() takes no range that spans several).
Moved move_pages(void *from, std::size_t old_bytes, void *to, std::size_t new_bytes) {
    const KeepErrno keep;
    Moved how = Moved::pages;
    void *way = mremap(from, old_bytes, old_bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, find_room(new_bytes));
    if (way == MAP_FAILED) {  // before Linux 5.7, or several mappings, or no room
        if (is_lacking(errno)) moves_pages.store(false, std::memory_order_relaxed);
        if (is_lacking(errno) && errno != EINVAL) return Moved::nothing;  // nor would it move anything else
        way = mmap(nullptr, new_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (way == MAP_FAILED) return Moved::nothing;
        std::memcpy(way, from, old_bytes);
        how = Moved::contents;
    } else {
        void *longer = mremap(way, old_bytes, new_bytes, MREMAP_MAYMOVE);
        if (longer == MAP_FAILED) {
            std::memcpy(to, way, old_bytes);
            munmap(way, old_bytes);
            return how;
        }
        way = longer;
    }
    if (mremap(way, new_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED) return how;
    std::memcpy(to, way, old_bytes);
    munmap(way, new_bytes);
    return how;
}

bool populate(void *ptr, std::size_t bytes) {
    if (!populates.load(std::memory_order_relaxed)) {
        errno = ENOSYS;
        return false;
    }
    char *first = page_of(ptr);
    const auto length = static_cast<std::size_t>(static_cast<char *>(ptr) + bytes - first);
    if (madvise(first, length, MADV_POPULATE_WRITE) == 0) return true;
    if (is_lacking(errno)) populates.store(false, std::memory_order_relaxed);
    return false;
}

void populate_new(void *ptr, std::size_t bytes) {
    if (bytes < page_size()) return;
    const KeepErrno keep;
    populate(ptr, bytes);
}

void clear_pages(void *ptr, std::size_t bytes) {
    constexpr std::size_t worth_a_call = std::size_t{256} << 10;
    char *start = static_cast<char *>(ptr);
    char *end = start + bytes;
    if (bytes >= worth_a_call) {
        const KeepErrno keep;
        char *first = page_of(start + page_size() - 1);
        char *last = page_of(end);
        // As jemalloc's own zeroing does. Locked pages stay.
        if (madvise(first, static_cast<std::size_t>(last - first), MADV_DONTNEED) == 0) {
            std::memset(start, 0, static_cast<std::size_t>(first - start));
            start = last;
        }
    }
    std::memset(start, 0, static_cast<std::size_t>(end - start));
}

void want_huge_pages(void *ptr, std::size_t bytes) {
    advise(ptr, bytes, MADV_HUGEPAGE);
}

void refuse_huge_pages(void *ptr, std::size_t bytes) {
    advise(ptr, bytes, MADV_NOHUGEPAGE);
}

void random_words(std::uintptr_t *words, std::size_t count) {
    const KeepErrno keep;
    const std::size_t bytes = count * sizeof *words;
    if (getrandom(words, bytes, GRND_NONBLOCK) == static_cast<ssize_t>(bytes)) return;
    // Early in the life of a machine. The kernel gives each process 16 random bytes.
    std::uint64_t seed[2];
    std::memcpy(seed, reinterpret_cast<const void *>(getauxval(AT_RANDOM)), sizeof seed);
    for (std::size_t i = 0; i < count; ++i) {
        seed[0] = (seed[0] + reinterpret_cast<std::uintptr_t>(words)) * (seed[1] | 1);
        words[i] = seed[0] ^ (seed[0] >> 32);
    }
}

}  // namespace jemalloc_lua
