// A heap's extents: taken from jemalloc within the budget, resized and moved, kept idle for a while, released
// to jemalloc, and purged to the system. What to keep is decided by policy/retention.h alone, and acted upon
// here, but for freed large blocks: blocks/large.cpp asks whether to keep each.
//
//   jemalloc ──take──► live ──(its owner finds it empty)──► idle ──release──► dirty ──purge──► the system
//                        ▲                                   │                  │
//                        └────────────── reused ─────────────┴── taken again ───┘
#pragma once

#include <cstddef>
#include <cstdint>

#include "pages/budget.h"
#include "pages/extent_map.h"
#include "pages/heap_arena.h"
#include "pages/purge_meter.h"
#include "policy/retention.h"
#include "system/flags.h"
#include "system/short_space.h"

namespace jemalloc_lua {

// The bytes of a large block's extent, for a block of `size` bytes (1 to PTRDIFF_MAX).
inline std::size_t extent_size(std::size_t size) {
    return je::size_class(size);
}

// Extents up to this size share jemalloc's slabs or runs, and are not resized in place.
inline constexpr std::size_t max_shared_extent = std::size_t{32} << 10;

// Those who keep idle extents: of slabs and of freed blocks. Pages asks them to give some back.
class IdleExtents {
  public:
    virtual std::size_t idle_bytes() const = 0;
    // Gives at least so many bytes of idle extents to Pages, or all.
    virtual void release_idle(std::size_t bytes) = 0;

  protected:
    ~IdleExtents() = default;
};

class Pages {
  public:
    struct Settings {
        std::size_t slab_size;
        std::size_t huge_min;
        unsigned retain;  // percent
        int thp;
        bool scrub;

        bool is_huge(std::size_t size) const { return size >= huge_min; }
    };
    struct Counts {
        std::size_t slabs = 0;
        std::size_t blocks = 0;  // large blocks, idle ones included
        std::size_t block_bytes = 0;
        std::uint64_t purged = 0;  // bytes
    };

    Pages(Budget &budget, HeapArena &arena, const Options &options, IdleExtents &idle);

    // A slab, aligned to its size. Null: the limit refuses it, which has been counted, or out of memory,
    // which the caller counts if it has no other block.
    void *take_slab();
    // A large block of `size` bytes. Null: refused, and counted.
    void *take_block(std::size_t size);
    // To jemalloc. after_free() is the caller's to call.
    void give(void *start);

    // A large block shrinks or grows in its place.
    enum class InPlace { done, refused, impossible };
    InPlace resize(void *block, std::size_t new_size);
    // A huge block grows elsewhere, as a rule by moving its pages. Null: the block is as before.
    void *move(void *block, std::size_t old_size, std::size_t new_size);

    // Bytes of the nursery. False: the limit has no room for them; idle extents are not given up for that.
    bool take_bytes(std::size_t bytes);
    // Room in the map for one more entry. False: refused, and counted.
    bool reserve_entry();

    // Something became idle, or went back to jemalloc: retention decides what else goes.
    void after_free();
    // Releases everything idle and purges; returns the bytes that went to the system.
    std::size_t trim();
    // The heap's end: releases every extent. Those in an arena of the heap's own go with the arena.
    void release_all();

    // While it lives, the limit does not refuse: Lua does not expect that a block cannot shrink.
    class Unlimited {
      public:
        explicit Unlimited(Pages &pages, bool really) : pages_(pages) { pages_.unlimited_ = really; }
        Unlimited(const Unlimited &) = delete;
        Unlimited &operator=(const Unlimited &) = delete;
        ~Unlimited() { pages_.unlimited_ = false; }

      private:
        Pages &pages_;
    };

    // Whether pages are mapped before they are touched: not where huge blocks may stay untouched.
    void set_map_ahead(bool wanted) { maps_ahead_ = wanted; }

    ExtentMap &map() { return map_; }
    const Settings &settings() const { return settings_; }
    const Counts &counts() const { return counts_; }
    Budget &budget() { return budget_; }
    std::size_t dirty() const { return dirty_.bytes(); }

  private:
    enum class Use { slab, block, growing_block };

    bool take_from_budget(std::size_t bytes);
    void fit_map();
    // Null: refused. `has_memory`: it seems that the pages are those of an earlier extent.
    struct Taken {
        void *start;
        bool has_memory;
    };
    // `counted` of the bytes are new to the budget.
    Taken take(std::size_t bytes, Use use, std::size_t counted);
    int flags_for(std::size_t bytes, Use use) const;
    int free_flags_for(const Extent &extent) const;
    // To jemalloc and out of the map; the budget stays as it is.
    void release(void *start);
    // Bytes of an extent went back to jemalloc.
    void note_dirty(const Extent &extent, std::size_t bytes);
    void release_idle();
    // The bytes that went.
    std::size_t purge();
    std::size_t note_purged();

    // Of growth.cpp.
    bool wants_huge_pages(std::size_t bytes) const;
    void advise_new(void *block, std::size_t bytes);
    void advise_again(void *block);
    void withdraw_advice(void *block, std::size_t kept);
    Stretched stretch_block(void *block, std::size_t new_bytes);
    void map_ahead(void *block, std::size_t old_size, std::size_t new_size);

    Settings settings_;
    Budget &budget_;
    HeapArena &arena_;
    IdleExtents &idle_;
    ExtentMap map_;
    policy::Dirty dirty_;
    PurgeMeter purge_meter_;
    Counts counts_;
    bool unlimited_ = false;
    bool maps_ahead_ = true;
};

}  // namespace jemalloc_lua
