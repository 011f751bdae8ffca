// Whether a heap may return dirty memory to the system now: policy/purge_budget.h, with the time that passes.
#pragma once

#include <cstddef>

#include "policy/purge_budget.h"
#include "system/clock.h"

namespace jemalloc_lua {

class PurgeMeter {
  public:
    explicit PurgeMeter(unsigned retain_percent) : is_free_(retain_percent == 0) {}

    // `held` and `dirty`: bytes of the heap's, and those that it has released. True: it is paid for, and is
    // to be purged.
    bool pays(std::size_t held, std::size_t dirty) {
        if (is_free_) return true;
        budget_.touched(held + dirty);
        if (!budget_.can_spend(dirty)) {
            const Stopwatch::Lap lap = stopwatch_.lap();
            budget_.worked(lap.processor_ns, lap.wall_ns);
            if (!budget_.can_spend(dirty)) return false;
        }
        budget_.spend(dirty);
        return true;
    }

  private:
    policy::PurgeBudget budget_;
    Stopwatch stopwatch_;
    bool is_free_;
};

}  // namespace jemalloc_lua
