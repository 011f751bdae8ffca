#include "system/clock.h"

#include <algorithm>
#include <ctime>

namespace jemalloc_lua {
namespace {

std::uint64_t now_ns(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) return 0;
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000 + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

Stopwatch::Lap Stopwatch::lap() {
    const std::uint64_t wall_ns = now_ns(CLOCK_MONOTONIC_COARSE);
    if (wall_ns <= wall_ns_) return {0, 0};
    const std::uint64_t processor_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    Lap lap{0, 0};
    if (wall_ns_ != 0) {
        lap.wall_ns = wall_ns - wall_ns_;
        if (processor_ns > processor_ns_)
            lap.processor_ns = std::min(processor_ns - processor_ns_, lap.wall_ns);
    }
    wall_ns_ = wall_ns;
    processor_ns_ = processor_ns;
    return lap;
}

}  // namespace jemalloc_lua
