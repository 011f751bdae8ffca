#include "system/arenas.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <mutex>

#include "base/process.h"
#include "jemalloc_lua.h"
#include "system/extent_hooks.h"
#include "system/ids.h"
#include "system/jemalloc.h"
#include "system/kernel.h"
#include "system/mallctl.h"
#include "system/mappings.h"
#include "system/own_mappings.h"
#include "system/provider.h"
#include "system/short_space.h"

namespace jemalloc_lua {
namespace {

constexpr unsigned max_shared = 64;

// A shared arena may keep this much dirty, or as much as is in use.
constexpr std::size_t min_shared_dirty = std::size_t{4} << 20;

struct Shared {
    unsigned index;
    std::size_t held;   // bytes that heaps hold
    std::size_t dirty;  // bytes that they released, and that were neither taken again nor purged
};

// All of it under the process's lock.
struct Pool {
    std::array<std::uint16_t, Ids::count> idle{};  // own arenas that no heap uses, a stack
    std::size_t idle_count = 0;
    std::array<Shared, max_shared> shared{};
    unsigned shared_wanted = 0;  // one per CPU; 0: not counted yet
    unsigned shared_count = 0;   // made so far
    unsigned shared_next = 0;    // whose turn it is
};

constinit Pool pool;

// Starts jemalloc before any other constructor of the library runs. jemalloc registers its fork() handlers
// when it starts, and handlers registered later run earlier before a fork: base/process.cpp registers the
// library's own ones afterwards, so that its lock is taken first. nallocx() is cheap, which matters to
// processes that never make a state. Its result is stored because compilers drop a pure call whose result is
// unused.
[[gnu::constructor(101)]] void start_jemalloc() {
    [[maybe_unused]] volatile const std::size_t needed = je::nallocx(1, 0);
}

constinit je::ArenaName dirty_decay_ms("arena.0.dirty_decay_ms");
constinit je::ArenaName muzzy_decay_ms("arena.0.muzzy_decay_ms");
constinit je::ArenaName extent_hooks("arena.0.extent_hooks");
constinit je::ArenaName purge("arena.0.purge");
constinit je::ArenaName dss("arena.0.dss");
constinit je::ArenaName retain_grow_limit("arena.0.retain_grow_limit");
constinit je::ArenaName oversize_threshold("arena.0.oversize_threshold");
constinit je::ArenaName reset("arena.0.reset");
constinit je::ArenaName dirty_pages("stats.arenas.0.pdirty", 2);
constinit je::ArenaName muzzy_pages("stats.arenas.0.pmuzzy", 2);
constinit je::ArenaName active_counter("experimental.arenas.0.pactivep", 2);

// An arena with hooks must not turn to sbrk(): where mmap() has nothing, jemalloc 5.3 calls itself without
// end for its own records then (extent_alloc_dss() asks for the memory that base_map() is to get).
void prepare(unsigned index) {
    dss.write(index, "disabled");
    // The next range that jemalloc retains is larger than the last one, up to this.
    if (is_space_short()) retain_grow_limit.write(index, huge_page);
}

Shared *find_shared(unsigned index) {
    for (unsigned i = 0; i < pool.shared_count; ++i) {
        if (pool.shared[i].index == index) return &pool.shared[i];
    }
    return nullptr;
}

std::optional<unsigned> create_arena(Ids::Owner owner) {
    unsigned index = 0;
    if (create_arena(own_ids, owner, &index, arena_hooks()) != 0) return {};
    prepare(index);
    return index;
}

void set_decay(unsigned index, std::intptr_t dirty_ms, std::intptr_t muzzy_ms) {
    const auto or_default = [](std::intptr_t ms, const char *name) {
        return ms == JEMALLOC_LUA_DECAY_DEFAULT ? je::read<ssize_t>(name) : static_cast<ssize_t>(ms);
    };
    dirty_decay_ms.write(index, or_default(dirty_ms, "arenas.dirty_decay_ms"));
    muzzy_decay_ms.write(index, or_default(muzzy_ms, "arenas.muzzy_decay_ms"));
}

void install_hooks(unsigned index) {
    if (arena_hooks() == nullptr) return;
    extent_hooks.write(index, arena_hooks());
    prepare(index);
}

// Whether an arena has our hooks.
bool is_ours(unsigned index) {
    extent_hooks_t *installed = nullptr;
    return extent_hooks.read(index, &installed) == 0 && installed != nullptr && installed == arena_hooks();
}

// Whether this jemalloc is no one else's. Its arena 0 is there from the start, then, with hardly anything in
// it.
bool is_private() {
    return je::prefix[0] != '\0';
}

}  // namespace

unsigned shared_arena() {
    const std::lock_guard guard(process_lock);
    Pool &p = pool;
    if (p.shared_wanted == 0) {
        p.shared_wanted =
            static_cast<unsigned>(std::clamp<long>(sysconf(_SC_NPROCESSORS_ONLN), 1, max_shared));
    }
    if (p.shared_count == 0 && is_private() && !addresses_are_guarded()) {
        install_hooks(0);
        p.shared[p.shared_count++] = {0, 0, 0};
        return 0;
    }
    if (p.shared_count < p.shared_wanted) {
        if (const auto index = create_arena(Ids::shared)) {
            p.shared[p.shared_count++] = {*index, 0, 0};
            return *index;
        }
    }
    if (p.shared_count == 0) return 0;
    return p.shared[p.shared_next++ % p.shared_count].index;
}

void shared_taken(unsigned index, std::size_t bytes) {
    const std::lock_guard guard(process_lock);
    if (Shared *shared = find_shared(index)) {
        shared->held += bytes;
        shared->dirty -= std::min(shared->dirty, bytes);
    }
}

void shared_given(unsigned index, std::size_t taken, std::size_t dirty) {
    {
        const std::lock_guard guard(process_lock);
        Shared *shared = find_shared(index);
        if (shared == nullptr) return;
        shared->held -= std::min(shared->held, taken);
        shared->dirty += dirty;
        if (shared->dirty <= std::max(shared->held, min_shared_dirty)) return;
        shared->dirty = 0;
    }
    purge_arena(index);
}

std::optional<unsigned> own_arena(std::intptr_t dirty_decay_ms, std::intptr_t muzzy_decay_ms) {
    std::optional<unsigned> index;
    bool fresh = false;
    {
        const std::lock_guard guard(process_lock);
        if (pool.idle_count > 0) {
            index = pool.idle[--pool.idle_count];
        } else if ((index = create_arena(Ids::heap))) {
            fresh = true;
        }
    }
    const bool plain =
        dirty_decay_ms == JEMALLOC_LUA_DECAY_DEFAULT && muzzy_decay_ms == JEMALLOC_LUA_DECAY_DEFAULT;
    if (index && !(fresh && plain)) set_decay(*index, dirty_decay_ms, muzzy_decay_ms);
    return index;
}

void recycle_arena(unsigned index) {
    if (reset.trigger(index) != 0) return;  // not ours to give to another heap
    purge_arena(index);
    const std::lock_guard guard(process_lock);
    pool.idle[pool.idle_count++] = static_cast<std::uint16_t>(index);
}

bool arena_is_open(unsigned index) {
    const auto automatic = je::read<unsigned>("opt.narenas");  // made when they are first used
    if (index >= je::read<unsigned>("arenas.narenas")) return false;
    // One that was destroyed has no decay time. jemalloc gives its index to the next that is created.
    ssize_t decay_ms = 0;
    if (index >= automatic && dirty_decay_ms.read(index, &decay_ms) != 0) return false;
    return own_ids.arenas[index] == Ids::open || own_ids.arenas[index] == Ids::shared;
}

bool arena_is_guarded(unsigned index) {
    return !addresses_are_guarded() || is_ours(index);
}

bool has_shared_arenas() {
    const std::lock_guard guard(process_lock);
    return pool.shared_count > 0;
}

unsigned thread_arena() {
    return je::read<unsigned>("thread.arena");
}

void *take_extent(std::size_t size, std::size_t alignment, unsigned index) {
    return je::mallocx(size, je::align_flag(alignment) | je::no_tcache_flag | je::arena_flag(index));
}

void give_extent(void *memory, std::size_t size, std::size_t alignment) {
    je::sdallocx(memory, size, je::align_flag(alignment) | je::no_tcache_flag);
}

std::size_t purge_arena(unsigned index) {
    const std::uint64_t before = bytes_that_stayed();
    purge.trigger(index);
    if (!is_ours(index) && !pages_can_be_purged()) return SIZE_MAX;
    return static_cast<std::size_t>(bytes_that_stayed() - before);
}

std::size_t dirty_bytes(unsigned index) {
    je::refresh_statistics();
    std::size_t pages[2] = {};
    dirty_pages.read(index, &pages[0]);
    muzzy_pages.read(index, &pages[1]);
    return (pages[0] + pages[1]) * je::read<std::size_t>("arenas.page");
}

bool gives_up_at_once(unsigned index) {
    ssize_t dirty = -1;
    ssize_t muzzy = -1;
    if (!is_ours(index) || je::read<bool>("background_thread") || je::read<bool>("opt.hpa")) return false;
    if (dirty_decay_ms.read(index, &dirty) != 0 || muzzy_decay_ms.read(index, &muzzy) != 0) return false;
    return dirty >= 0 && muzzy >= 0 && oversize_threshold.write(index, own_mappings::min_size) == 0;
}

ActivePages active_pages(unsigned index) {
    // The counter itself, which needs no refreshing; but jemalloc shows no arena that it has not refreshed
    // once.
    const std::size_t *pages = nullptr;
    if (active_counter.read(index, &pages) != 0) {
        je::refresh_statistics();
        if (active_counter.read(index, &pages) != 0) return {};
    }
    return {pages, je::read<std::size_t>("arenas.page")};
}

}  // namespace jemalloc_lua
