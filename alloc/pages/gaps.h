// What a heap holds between its blocks where jemalloc lays them out: a page stays as long as one block in it
// is in use. A heap with a limit counts such gaps, as of the last time that they were settled.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pages/budget.h"
#include "pages/heap_arena.h"

namespace jemalloc_lua {

class Gaps {
  public:
    explicit Gaps(Budget &budget) : budget_(budget) { limit_changed(); }

    // Whether to settle before `bytes` more are taken: they would not fit, or so much was asked for since the
    // last time that gaps and dirty pages may have filled what was left then.
    bool must_settle(std::size_t bytes) {
        if (bytes > room_ || !budget_.has_room(bytes)) [[unlikely]]
            return true;
        room_ -= bytes;
        return false;
    }
    // `pages`: bytes of the pages that hold the heap's blocks, where that is known; `bytes` are taken next.
    void settle(std::size_t pages, std::size_t bytes);
    // The limit has changed.
    void limit_changed() { room_ = budget_.counts().limit == SIZE_MAX ? SIZE_MAX : 0; }

    // The footprint with the gaps as they are now, which may be smaller than when they were settled. Where
    // there were none, `arena` is not asked.
    std::size_t footprint_now(const HeapArena &arena) const;

  private:
    Budget &budget_;
    std::size_t bytes_ = 0;
    std::size_t room_ = 0;  // bytes to ask for until settle()
};

}  // namespace jemalloc_lua
