// The bytes that a heap holds, and how many it may.
//
// Between two thresholds the budget moves without being looked at, so each change costs one comparison. The
// upper threshold is the lowest of the hard limit, the next point at which the collector is pushed, and the
// next at which the heap's figures are published; the lower one serves the last two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "luajit/collector.h"

namespace jemalloc_lua {

// Hears that a heap's figures have changed: off the allocation path, at the budget's thresholds.
class Watcher {
  public:
    virtual void changed() = 0;

  protected:
    ~Watcher() = default;
};

class Budget {
  public:
    // In bytes; SIZE_MAX: no limit.
    struct Counts {
        std::size_t held = 0;     // the footprint
        std::size_t charged = 0;  // of it: held elsewhere
        std::size_t peak = 0;     // the highest `held`, up to the last time that bytes were given
        std::size_t limit = SIZE_MAX;
        std::size_t soft_limit = SIZE_MAX;
        std::uint64_t refusals = 0;

        std::size_t own() const { return held - charged; }
        // Bytes that the limit leaves.
        std::size_t room() const { return limit == SIZE_MAX ? SIZE_MAX : limit - std::min(limit, held); }
        // From the first refusal on LuaJIT may be wrong about a block's size: luajit/layout.h,
        // max_upvalues_size; and a block that could not shrink is larger than LuaJIT knows.
        bool has_refused() const { return refusals != 0; }
    };

    explicit Budget(luajit::Collector &collector) : collector_(collector) {}

    // False: `bytes` more would pass the limit; the refusal is counted, and the collector pushed.
    bool take(std::size_t bytes) {
        if (counts_.held + bytes > upper_) [[unlikely]]
            return take_above(bytes);
        take_always(bytes);
        return true;
    }
    // Bytes that are held whatever the limit says, as when a block shrinks into a smaller one.
    void take_always(std::size_t bytes) { counts_.held += bytes; }

    void give(std::size_t bytes) {
        counts_.peak = std::max(counts_.peak, counts_.held);
        undo(bytes);
    }
    // Bytes that were taken before there turned out to be no memory: never held, so they make no peak.
    void undo(std::size_t bytes) {
        counts_.held -= bytes;
        if (counts_.held < lower_) [[unlikely]]
            fell_below();
    }

    // Whether `bytes` more would be more than was ever held.
    bool would_be_peak(std::size_t bytes) const { return counts_.held + bytes > counts_.peak; }

    bool has_room(std::size_t bytes) const {
        return bytes <= counts_.limit && counts_.held <= counts_.limit - bytes;
    }

    // Counts a request that is refused although take() has not refused it: there is no memory, or charge()
    // says no.
    void refuse() {
        ++counts_.refusals;
        publish();
    }

    // Bytes held elsewhere that count here. They are in the limit; decisions about the heap's own memory
    // leave them out.
    bool charge(std::size_t bytes);
    void uncharge(std::size_t bytes);
    // Charged bytes for which there turned out to be no memory.
    void undo_charge(std::size_t bytes);

    // Bytes; 0: none.
    void set_limits(std::size_t limit, std::size_t soft_limit);

    // Null: nobody wants to hear of changes.
    void watch(Watcher *watcher);
    // Something other than the budget has changed.
    void publish() {
        if (watcher_ != nullptr) [[unlikely]]
            publish_now();
    }

    const Counts &counts() const { return counts_; }

  private:
    bool take_above(std::size_t bytes);
    void fell_below();
    void push_collector();
    void relax_collector();
    void set_thresholds();
    void publish_now();

    Counts counts_;
    std::size_t upper_ = SIZE_MAX;
    std::size_t lower_ = 0;
    std::size_t next_push_ = SIZE_MAX;  // the soft limit, or above it while the collector is pushed
    luajit::Collector &collector_;
    Watcher *watcher_ = nullptr;
    std::size_t publish_below_ = 0;
    std::size_t publish_above_ = SIZE_MAX;
};

}  // namespace jemalloc_lua
