#include "arena_pool.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>

#include "address_guard.h"
#include "jemalloc.h"
#include "jemalloc_lua.h"

namespace jemalloc_lua {
namespace {

constexpr std::size_t max_arenas = 4096;  // MALLOCX_ARENA() has 12 bits
constexpr unsigned max_shared = 64;

// A shared arena may keep this much unused, or as much as is in use.
constexpr std::size_t min_shared_unused = std::size_t{4} << 20;

struct Shared {
    unsigned index;
    std::size_t held;    // bytes that heaps hold
    std::size_t unused;  // bytes that they gave back, and that were neither taken again nor purged
};

struct Pool {
    std::mutex lock;
    std::array<std::uint16_t, max_arenas> idle;  // own arenas that no heap uses, a stack
    std::size_t idle_count = 0;
    std::bitset<max_arenas> owned;  // idle now, or some heap's own
    std::array<Shared, max_shared> shared;
    unsigned shared_count = 0;  // made so far
    unsigned shared_next = 0;   // whose turn it is

    // jemalloc forgets in the child of fork() which tcaches its arenas have, and to flush or destroy one from
    // before then is to follow links that lead nowhere (arena_postfork_child() and tcache_arena_dissociate()
    // in jemalloc 5.3). Those are left as they are.
    std::uint32_t generation = 0;                          // forks behind this process
    std::array<std::uint32_t, max_arenas> tcache_made_in;  // the generation, by tcache
};

// Never destroyed: states may be closed after static destructors have run.
Pool &pool() {
    alignas(Pool) static std::byte storage[sizeof(Pool)];
    static Pool *const pool = [] {
        auto *made = new (storage) Pool;
        // A child of fork() has only the thread that called it, so no other may hold the lock meanwhile.
        pthread_atfork([] { jemalloc_lua::pool().lock.lock(); }, [] { jemalloc_lua::pool().lock.unlock(); },
                       [] {
                           ++jemalloc_lua::pool().generation;
                           jemalloc_lua::pool().lock.unlock();
                       });
        return made;
    }();
    return *pool;
}

// A name with an arena's index in it ("arena.<i>.x"), resolved once; each call costs no text.
class ArenaName {
  public:
    explicit ArenaName(const char *name, std::size_t index_at = 1) : index_at_(index_at) {
        length_ = mib_.size();
        if (je::mallctlnametomib(name, mib_.data(), &length_) != 0) length_ = 0;
    }

    int trigger(unsigned index) const { return call(index, nullptr, nullptr, nullptr, 0); }

    int write(unsigned index, ssize_t value) const {
        return call(index, nullptr, nullptr, &value, sizeof value);
    }

    template <class T>
    int read(unsigned index, T *value) const {
        std::size_t size = sizeof *value;
        return call(index, value, &size, nullptr, 0);
    }

  private:
    int call(unsigned index, void *old, std::size_t *old_size, void *now, std::size_t now_size) const {
        if (length_ == 0) return ENOENT;
        auto mib = mib_;
        mib[index_at_] = index;
        return je::mallctlbymib(mib.data(), length_, old, old_size, now, now_size);
    }

    std::array<std::size_t, 4> mib_{};
    std::size_t length_;
    std::size_t index_at_;
};

Shared *find_shared(Pool &p, unsigned index) {
    for (unsigned i = 0; i < p.shared_count; ++i) {
        if (p.shared[i].index == index) return &p.shared[i];
    }
    return nullptr;
}

std::optional<unsigned> create_arena() {
    unsigned index = 0;
    std::size_t size = sizeof index;
    extent_hooks_t *hooks = guard_hooks();
    const std::size_t hooks_size = hooks == nullptr ? 0 : sizeof hooks;
    void *with = hooks == nullptr ? nullptr : static_cast<void *>(&hooks);
    if (je::mallctl("arenas.create", &index, &size, with, hooks_size) != 0 || index >= max_arenas) return {};
    return index;
}

void set_decay(unsigned index, std::intptr_t dirty_ms, std::intptr_t muzzy_ms) {
    static const ArenaName dirty("arena.0.dirty_decay_ms");
    static const ArenaName muzzy("arena.0.muzzy_decay_ms");
    const auto or_default = [](std::intptr_t ms, const char *name) {
        return ms == JEMALLOC_LUA_DECAY_DEFAULT ? je::read<ssize_t>(name) : static_cast<ssize_t>(ms);
    };
    dirty.write(index, or_default(dirty_ms, "arenas.dirty_decay_ms"));
    muzzy.write(index, or_default(muzzy_ms, "arenas.muzzy_decay_ms"));
}

// All arenas' statistics, as they are now.
void refresh_statistics() {
    std::uint64_t epoch = 1;
    je::mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
}

// Whether jemalloc still knows a tcache: it was made since the last fork.
bool is_known(unsigned tcache) {
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    return p.tcache_made_in[tcache] == p.generation;
}

}  // namespace

unsigned shared_arena() {
    static const auto wanted =
        static_cast<unsigned>(std::clamp<long>(sysconf(_SC_NPROCESSORS_ONLN), 1, max_shared));
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    if (p.shared_count < wanted) {
        if (const auto index = create_arena()) {
            p.shared[p.shared_count++] = {*index, 0, 0};
            return *index;
        }
    }
    if (p.shared_count == 0) return 0;
    return p.shared[p.shared_next++ % p.shared_count].index;
}

void shared_taken(unsigned index, std::size_t bytes) {
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    if (Shared *shared = find_shared(p, index)) {
        shared->held += bytes;
        shared->unused -= std::min(shared->unused, bytes);
    }
}

void shared_given(unsigned index, std::size_t taken, std::size_t unused) {
    Pool &p = pool();
    {
        const std::lock_guard guard(p.lock);
        Shared *shared = find_shared(p, index);
        if (shared == nullptr) return;
        shared->held -= std::min(shared->held, taken);
        shared->unused += unused;
        if (shared->unused <= std::max(shared->held, min_shared_unused)) return;
        shared->unused = 0;
    }
    purge_arena(index);
}

std::optional<unsigned> own_arena(std::intptr_t dirty_decay_ms, std::intptr_t muzzy_decay_ms) {
    Pool &p = pool();
    std::optional<unsigned> index;
    bool fresh = false;
    {
        const std::lock_guard guard(p.lock);
        if (p.idle_count > 0) index = p.idle[--p.idle_count];
    }
    if (!index) {
        index = create_arena();
        fresh = true;
        const std::lock_guard guard(p.lock);
        if (index) p.owned.set(*index);
    }
    const bool plain =
        dirty_decay_ms == JEMALLOC_LUA_DECAY_DEFAULT && muzzy_decay_ms == JEMALLOC_LUA_DECAY_DEFAULT;
    if (index && !(fresh && plain)) set_decay(*index, dirty_decay_ms, muzzy_decay_ms);
    return index;
}

void recycle_arena(unsigned index) {
    static const ArenaName reset("arena.0.reset");
    if (reset.trigger(index) != 0) return;  // not ours to give to another heap
    purge_arena(index);
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    p.idle[p.idle_count++] = static_cast<std::uint16_t>(index);
}

bool arena_is_open(unsigned index) {
    static const ArenaName dirty("arena.0.dirty_decay_ms");
    static const auto automatic = je::read<unsigned>("opt.narenas");  // made when they are first used
    if (index >= je::read<unsigned>("arenas.narenas")) return false;
    // One that was destroyed has no decay time. jemalloc gives its index to the next that is created.
    ssize_t decay_ms = 0;
    if (index >= automatic && dirty.read(index, &decay_ms) != 0) return false;
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    return !p.owned.test(index);
}

bool arena_is_guarded(unsigned index) {
    static const ArenaName hooks("arena.0.extent_hooks");
    extent_hooks_t *installed = nullptr;
    return guard_hooks() == nullptr || (hooks.read(index, &installed) == 0 && installed == guard_hooks());
}

bool has_shared_arenas() {
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    return p.shared_count > 0;
}

unsigned thread_arena() {
    static const auto mib = [] {
        std::array<std::size_t, 2> found{};
        std::size_t length = found.size();
        je::mallctlnametomib("thread.arena", found.data(), &length);
        return found;
    }();
    unsigned index = 0;
    std::size_t size = sizeof index;
    je::mallctlbymib(mib.data(), mib.size(), &index, &size, nullptr, 0);
    return index;
}

void purge_arena(unsigned index) {
    static const ArenaName purge("arena.0.purge");
    purge.trigger(index);
}

std::size_t unused_bytes(unsigned index) {
    static const ArenaName dirty("stats.arenas.0.pdirty", 2);
    static const ArenaName muzzy("stats.arenas.0.pmuzzy", 2);
    refresh_statistics();
    std::size_t pages[2] = {};
    dirty.read(index, &pages[0]);
    muzzy.read(index, &pages[1]);
    return (pages[0] + pages[1]) * je::read<std::size_t>("arenas.page");
}

std::size_t active_bytes(unsigned index) {
    // The counter itself, which needs no refreshing; but jemalloc shows no arena that it has not refreshed
    // once.
    static const ArenaName active("experimental.arenas.0.pactivep", 2);
    static const auto page = je::read<std::size_t>("arenas.page");
    const std::size_t *pages = nullptr;
    if (active.read(index, &pages) != 0) {
        refresh_statistics();
        if (active.read(index, &pages) != 0) return 0;
    }
    return *pages * page;
}

std::optional<unsigned> create_tcache() {
    unsigned id = 0;
    std::size_t size = sizeof id;
    if (je::mallctl("tcache.create", &id, &size, nullptr, 0) != 0) return {};
    Pool &p = pool();
    const std::lock_guard guard(p.lock);
    p.tcache_made_in[id] = p.generation;
    return id;
}

void destroy_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

void flush_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
}

}  // namespace jemalloc_lua
