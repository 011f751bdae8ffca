#include "pages/budget.h"

#include "policy/pressure.h"

namespace jemalloc_lua {

void Budget::set_limits(std::size_t limit, std::size_t soft_limit) {
    collector_.relax();
    counts_.limit = limit == 0 ? SIZE_MAX : limit;
    counts_.soft_limit = soft_limit == 0 ? SIZE_MAX : soft_limit;
    next_push_ = counts_.soft_limit;
    set_thresholds();
    publish();
}

bool Budget::charge(std::size_t bytes) {
    if (!has_room(bytes)) {
        refuse();
        return false;
    }
    if (!take(bytes)) return false;
    counts_.charged += bytes;
    return true;
}

void Budget::uncharge(std::size_t bytes) {
    counts_.charged -= bytes;
    give(bytes);
}

void Budget::undo_charge(std::size_t bytes) {
    counts_.charged -= bytes;
    undo(bytes);
}

void Budget::set_thresholds() {
    upper_ = std::min({counts_.limit, next_push_, publish_above_});
    lower_ = collector_.is_pushed() ? SIZE_MAX : publish_below_;
}

bool Budget::take_above(std::size_t bytes) {
    const bool refused = !has_room(bytes);
    if (refused) ++counts_.refusals;
    if (collector_.state() != nullptr && (refused || counts_.held + bytes > next_push_)) push_collector();
    if (!refused) take_always(bytes);
    if (refused || counts_.held > publish_above_) publish();
    return !refused;
}

void Budget::fell_below() {
    if (collector_.is_pushed()) relax_collector();
    if (counts_.held < publish_below_) publish();
}

void Budget::push_collector() {
    if (!collector_.is_stopped()) collector_.push(policy::pushed_stepmul);
    next_push_ = counts_.held + policy::push_step(counts_.limit, counts_.soft_limit);
    set_thresholds();
}

// The footprint falls: the next push comes closer, and below the soft limit the collector has its own
// speed again.
void Budget::relax_collector() {
    next_push_ = std::min(next_push_, counts_.held + policy::push_step(counts_.limit, counts_.soft_limit));
    if (counts_.held <= counts_.soft_limit) {
        collector_.relax();
        next_push_ = counts_.soft_limit;
    }
    set_thresholds();
}

void Budget::watch(Watcher *watcher) {
    watcher_ = watcher;
    publish_below_ = 0;
    publish_above_ = SIZE_MAX;
    set_thresholds();
    publish();
}

// Next when the footprint has moved by 16 KiB and by one part in 256.
void Budget::publish_now() {
    const std::size_t step = std::max(counts_.held >> 8, std::size_t{16} << 10);
    publish_below_ = counts_.held - std::min(counts_.held, step);
    publish_above_ = counts_.held + step;
    set_thresholds();
    watcher_->changed();
}

}  // namespace jemalloc_lua
