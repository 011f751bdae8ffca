#include "system/extent_hooks.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/process.h"
#include "config/options.h"
#include "system/kernel.h"
#include "system/mappings.h"
#include "system/own_mappings.h"
#include "system/short_space.h"

// Linux 5.18.
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

namespace jemalloc_lua {
namespace {

extent_hooks_t *plain = nullptr;  // jemalloc's own
extent_hooks_t hooks;
bool never_overcommits = false;  // the system, so that jemalloc decommits

bool retains = true;

std::atomic<WayBack> way{WayBack::purge};
std::atomic<std::uint64_t> stayed{0};

void note(WayBack wanted) {
    WayBack now = way.load(std::memory_order_relaxed);
    while (now < wanted && !way.compare_exchange_weak(now, wanted, std::memory_order_relaxed)) {
    }
}

bool decommits() {
    return never_overcommits || way_back() != WayBack::purge;
}

constexpr int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

// ---- The hooks. jemalloc's convention: true is a refusal.

// What is not committed may be read, since free() may look there (mappings.h). It has no memory, but for the
// page of zeros that all share, and the system does not answer for it either.
constexpr int decommitted = PROT_READ;

// jemalloc wants more than it needs, to retain it, where the memory need not be committed
// (extent_grow_retained() in jemalloc 5.3). A lock would give memory to all of it, and a system that does not
// overcommit has to answer for it.
//
// jemalloc's own hook is not called: where mmap() fails it goes on to sbrk(), for which it needs memory of
// the same arena, and so calls the hook without end (extent_alloc_dss() and base_alloc_edata()).
void *take(extent_hooks_t *, void *wanted, std::size_t size, std::size_t alignment, bool *zero, bool *commit,
           unsigned) {
    const KeepErrno keep;
    const bool to_retain = wanted == nullptr && !*commit;
    if (is_space_short()) {
        if (wanted == nullptr && *commit && alignment <= page_size()) {
            if (void *ptr = mapping_at_hand(size)) {
                own_mappings::add(ptr, size);
                *zero = false;
                return ptr;
            }
        }
        // What is large is mapped alone, and to its size; jemalloc would take more to retain it. With *zero
        // the memory is for records, of jemalloc's or of a heap's.
        if (to_retain && size > huge_page) return nullptr;
        if (!*zero && !has_room(size)) return nullptr;
    }
    // A lock gives memory to all that may be read as it is mapped, and to none that becomes readable later.
    const bool waits = !*commit && decommits();
    void *ptr = map_pages(wanted, size, alignment, waits ? PROT_NONE : PROT_READ | PROT_WRITE);
    if (ptr == nullptr) return nullptr;
    if (waits && mprotect(ptr, size, decommitted) != 0) {
        munmap(ptr, size);
        return nullptr;
    }
    const bool is_whole = is_space_short() && wanted == nullptr && !to_retain;
    if (is_whole && size >= own_mappings::min_size) own_mappings::add(ptr, size);
    *zero = true;
    *commit = !waits;
    return ptr;
}

// Not what may lie before a block within a slab's size.
bool give(extent_hooks_t *, void *start, std::size_t size, bool committed, unsigned arena) {
    const bool ends_a_slab = (reinterpret_cast<std::uintptr_t>(start) + size) % max_slab == 0;
    return !ends_a_slab || plain->dalloc(plain, start, size, committed, arena);
}

// First asked of each extent that goes, if it is there. What stays mapped, jemalloc purges and retains.
bool give_up(extent_hooks_t *, void *ptr, std::size_t size, bool, unsigned) {
    const KeepErrno keep;
    if (!own_mappings::remove(ptr, size)) return true;
    if (stretch_given_up(ptr, size) || munmap(ptr, size) == 0) return false;
    own_mappings::add(ptr, size);
    return true;
}

bool decommit(extent_hooks_t *, void *ptr, std::size_t, std::size_t offset, std::size_t length, unsigned) {
    if (!decommits()) return true;
    const KeepErrno keep;
    void *start = static_cast<char *>(ptr) + offset;
    if (mmap(start, length, decommitted, anonymous | MAP_FIXED, -1, 0) == MAP_FAILED) return true;
    // Under a lock it has memory by now: a page of its own for each, where the kernel shares no page of
    // zeros. Never unreadable in between, as in take(): another thread may look there.
    if (way_back() != WayBack::purge) madvise(start, length, MADV_DONTNEED_LOCKED);
    return false;
}

bool map_over(void *ptr, std::size_t size) {
    return mmap(ptr, size, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED, -1, 0) != MAP_FAILED;
}

bool commit(extent_hooks_t *, void *ptr, std::size_t, std::size_t offset, std::size_t length, unsigned) {
    const KeepErrno keep;
    return !map_over(static_cast<char *>(ptr) + offset, length);
}

// The first refusal: jemalloc takes the extent for a committed one. Where locks give memory to all that is
// mapped (mlockall()), another mapping is of no use.
bool purge_refused(void *ptr, std::size_t size) {
    note(WayBack::remap);
    if (madvise(ptr, size, MADV_DONTNEED_LOCKED) == 0 || map_over(ptr, size)) return false;
    note(WayBack::none);
    stayed.fetch_add(size, std::memory_order_relaxed);
    return true;
}

bool purge(extent_hooks_t *, void *ptr, std::size_t size, std::size_t offset, std::size_t length,
           unsigned arena) {
    const KeepErrno keep;
    if (!plain->purge_forced(plain, ptr, size, offset, length, arena)) return false;
    return purge_refused(static_cast<char *>(ptr) + offset, length);
}

// As jemalloc's own, which joins all but memory of sbrk() with other memory; but that one sets up the
// thread's data, where the thread has none, and takes the arena's lock for it, which the caller holds: a
// thread whose first call frees an extent would wait for itself (ehooks_default_merge() in jemalloc 5.3).
bool merge(extent_hooks_t *, void *a, std::size_t, void *b, std::size_t, bool, unsigned) {
    const void *end = sbrk(0);
    return (a < end) != (b < end);
}

// Where the system does not overcommit.
bool jemalloc_decommits() {
    const std::size_t size = page_size();
    void *page = mmap(nullptr, size, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    if (page == MAP_FAILED) return false;
    const bool does = plain->decommit != nullptr && !plain->decommit(plain, page, size, 0, size, 0);
    munmap(page, size);
    return does;
}

extent_hooks_t *make_hooks() {
    plain = je::read<extent_hooks_t *>("arena.0.extent_hooks");
    if (plain == nullptr) return nullptr;
    hooks = *plain;
    hooks.alloc = take;
    hooks.merge = merge;
    // With opt.retain jemalloc's own hook would not unmap either, and where there is none, it is not asked.
    retains = je::read<bool>("opt.retain");
    hooks.dalloc = retains ? nullptr : give;
    hooks.commit = commit;
    hooks.decommit = decommit;
    never_overcommits = jemalloc_decommits();
    if (plain->purge_forced != nullptr) hooks.purge_forced = purge;
    if (!pages_can_be_purged()) note(WayBack::remap);
    notice_bounds();
    return &hooks;
}

}  // namespace

bool notice_bounds() {
    if (addresses_are_guarded() || !retains) return false;  // mremap() keeps to no bound of addresses
    if (!is_space_bounded()) return false;
    hooks.dalloc = give_up;
    return true;
}

extent_hooks_t *arena_hooks() {
    static constinit Once<extent_hooks_t *> made;
    return made.get(make_hooks);
}

WayBack way_back() {
    return way.load(std::memory_order_relaxed);
}

std::uint64_t bytes_that_stayed() {
    return stayed.load(std::memory_order_relaxed);
}

bool pages_can_be_purged() {
    const KeepErrno keep;
    const std::size_t size = page_size();
    void *page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return true;  // nobody can tell
    const bool can = madvise(page, size, MADV_DONTNEED) == 0;
    munmap(page, size);
    return can;
}

}  // namespace jemalloc_lua
