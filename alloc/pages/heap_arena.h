// The arena that a heap takes its memory from, and the flags that name it.
//
// With arena:auto a heap begins on one of the shared arenas, its first arena, and migrates to an arena of its
// own when it has grown. What it took before stays on the first arena until it is freed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "config/options.h"
#include "system/arenas.h"

namespace jemalloc_lua {

class HeapArena {
  public:
    struct Placement {
        unsigned first;            // the arena of the heap's own header
        bool owns = false;         // the heap has an arena of its own
        bool owns_all = false;     // all that was ever taken came from it, so its reset frees everything
        bool may_migrate = false;  // it may still come to own one
        unsigned fallbacks = 0;    // JEMALLOC_LUA_FALLBACK_* bits

        bool may_own() const { return owns || may_migrate; }
    };

    // Takes what the options ask for, or falls back; never fails. `lays_out_blocks`: jemalloc is asked for
    // each block, so the heap gets a tcache, if the options ask for one.
    HeapArena(const Options &options, bool lays_out_blocks, unsigned first);
    HeapArena(const HeapArena &) = delete;
    HeapArena &operator=(const HeapArena &) = delete;
    ~HeapArena();

    // For mallocx() and xallocx(); and without the arena for sdallocx().
    int flags() const { return flags_; }
    int free_flags() const { return free_flags_; }
    const Placement &placement() const { return placement_; }
    // The index of the arena that memory comes from next.
    unsigned index() const;

    // arena:auto: takes an arena of its own once `held` has passed the threshold. True: that was now, and the
    // first arena was purged.
    bool migrate_if_due(std::size_t held) { return held > threshold_ && migrate(held); }
    // `bytes` of the first arena were freed after migration.
    void freed_on_first(std::size_t bytes);
    // Of `held` bytes, those that lie on the first arena.
    std::size_t bytes_on_first(std::size_t held) const;

    // Returns the arena's dirty pages to the system; the tcache's blocks to the arena first, if wanted.
    void purge(bool flush_tcache_first = false);
    // Of what was purged last, the bytes that stayed: the system has refused them.
    std::size_t stayed() const { return stayed_; }
    // The same with the tcache, and the bytes that this made of the arena's dirty pages.
    std::size_t trim();
    // Bytes of the own arena's pages that hold blocks or were cached; 0 without such an arena. Asks jemalloc
    // the first time, which a signal handler must not do.
    std::size_t active() const;

  private:
    bool migrate(std::size_t held);
    void set_flags();

    int flags_ = 0;
    int free_flags_ = 0;
    std::size_t threshold_ = SIZE_MAX;
    Placement placement_;
    std::size_t left_on_first_ = 0;   // bytes there since migration
    std::size_t dirty_on_first_ = 0;  // bytes freed there since it was last purged
    std::size_t stayed_ = 0;
    mutable ActivePages active_pages_;
    unsigned arena_;
    unsigned tcache_ = 0;
    bool has_tcache_ = false;
    bool thread_arena_ = false;
    bool thread_tcache_ = false;
    std::intptr_t dirty_decay_ms_;
    std::intptr_t muzzy_decay_ms_;
};

}  // namespace jemalloc_lua
