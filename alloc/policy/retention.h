// What a heap keeps of the memory that it does not use: decisions from plain figures, without a heap.
//
// live   bytes in blocks            held by the heap, and counted towards its limit
// idle   bytes in empty extents     held by the heap, and counted towards its limit
// dirty  bytes released to jemalloc and not yet purged: still resident, no longer counted
//
// Bound: after after_free() has said that nothing is to be done, idle memory is at most
// max(live x retain percent, min_kept), and idle and dirty memory together exceed that by purge_step at most.
#pragma once

#include <cstddef>

namespace jemalloc_lua::policy {

struct PageUse {
    std::size_t live;
    std::size_t idle;
    std::size_t dirty;
};

struct Verdict {
    std::size_t release;  // bytes of idle extents to release to jemalloc
    bool purge;           // return the arena's dirty pages to the system
};

// This much may stay idle, however little is live.
inline constexpr std::size_t min_kept = std::size_t{512} << 10;

// The arena is purged when it holds this much more than may stay idle.
inline constexpr std::size_t purge_step = std::size_t{4} << 20;

// After a block or an extent became free. Live memory falls while a sweep goes on, so the excess of the
// moment is released whole.
Verdict after_free(const PageUse &use, unsigned retain_percent);

// Before `wanted` bytes are taken: whether dirty pages must go first, so that the state's resident memory
// stays below `limit` (SIZE_MAX: none). A state near its limit would purge at every request without slack.
inline bool purge_for_limit(std::size_t held, std::size_t dirty, std::size_t wanted, std::size_t limit) {
    constexpr std::size_t slack = std::size_t{1} << 20;
    return dirty > slack && limit != static_cast<std::size_t>(-1) && held + wanted + (dirty - slack) > limit;
}

// Before a large block is taken: a block larger than all dirty memory cannot reuse it. Purge first, or both
// would be resident. A block that comes and goes is part of the dirty memory, so it causes no purge.
inline bool purge_for_size(std::size_t dirty, std::size_t wanted) {
    constexpr std::size_t worth_it = std::size_t{2} << 20;
    return dirty >= worth_it && wanted > dirty;
}

// Whether freed blocks of `kept` bytes in all may become `wanted` more: they stay within a share of what the
// heap holds.
inline bool may_keep(std::size_t kept, std::size_t wanted, std::size_t held) {
    constexpr std::size_t min_share = std::size_t{256} << 10;
    const std::size_t share = held / 2;
    return kept + wanted <= (share < min_share ? min_share : share);
}

// What is dirty, as far as the heap can tell without asking jemalloc. jemalloc serves a request from a free
// extent that fits it and is at most 2^max_fit_lg times larger (opt.lg_extent_max_active_fit in jemalloc(3)).
class Dirty {
  public:
    explicit Dirty(unsigned max_fit_lg) : max_fit_lg_(max_fit_lg) {}

    void released(std::size_t bytes) {
        bytes_ += bytes;
        if (bytes > largest_) largest_ = bytes;
    }
    // Whether the memory seems to be some of it.
    bool taken(std::size_t bytes) {
        if (bytes > largest_ || bytes < largest_ >> max_fit_lg_) return false;
        const bool all_of_it = bytes <= bytes_;
        bytes_ -= all_of_it ? bytes : bytes_;
        return all_of_it;
    }
    // All of it was purged; returns how much that was.
    std::size_t purged() {
        const std::size_t bytes = bytes_;
        bytes_ = largest_ = 0;
        return bytes;
    }
    std::size_t bytes() const { return bytes_; }

  private:
    std::size_t bytes_ = 0;
    std::size_t largest_ = 0;
    unsigned max_fit_lg_;
};

}  // namespace jemalloc_lua::policy
