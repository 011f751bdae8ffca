// Whether a heap may return dirty memory to the system now: policy/purge_budget.h, with the time that passes.
#pragma once

#include <cstddef>

#include "policy/purge_budget.h"
#include "system/clock.h"

namespace jemalloc_lua {

class PurgeMeter {
  public:
    explicit PurgeMeter(unsigned retain_percent) : is_free_(retain_percent == 0) {}

    // `held` and `dirty`: bytes of the heap's, and those that it has released.
    bool can_afford(std::size_t held, std::size_t dirty) {
        if (is_free_) return true;
        budget_.touched(held + dirty);
        if (budget_.can_spend(dirty)) return true;
        const Stopwatch::Lap lap = stopwatch_.lap();
        budget_.worked(lap.processor_ns, lap.wall_ns);
        return budget_.can_spend(dirty);
    }
    void spend(std::size_t bytes) { budget_.spend(bytes); }

  private:
    policy::PurgeBudget budget_;
    Stopwatch stopwatch_;
    bool is_free_;
};

}  // namespace jemalloc_lua
