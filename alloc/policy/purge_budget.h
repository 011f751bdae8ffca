// How much may return to the system. A page that has gone and is wanted again costs a fault, of 0.25 us on
// bare metal and 2.5 us and more in a virtual machine, so what is freed and allocated again each moment must
// stay.
//
// Bound: in T seconds of processor time and W of wall time, a heap that held and released at most P bytes at
// once returns at most 1.5 P + T x per_second_of_work + W x per_second bytes. P has been touched once in any
// case. At 2.5 us that is once more the faults of P, and 2 % of T. Purges for a limit, by trim() and with
// retain:0 stand outside of the bound, and those before a block larger than all that goes: its own pages,
// which are more, are touched for the first time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace jemalloc_lua::policy {

class PurgeBudget {
  public:
    static constexpr std::size_t per_second_of_work = std::size_t{32} << 20;
    static constexpr std::size_t per_second = std::size_t{4} << 20;

    // The heap holds, or has released and not purged, so many bytes.
    void touched(std::size_t bytes) {
        if (bytes <= peak_) return;
        earned_ += for_peak(bytes) - for_peak(peak_);
        peak_ = bytes;
    }
    // Time has passed, in nanoseconds.
    void worked(std::uint64_t processor_ns, std::uint64_t wall_ns) {
        const std::size_t earned = bytes_in(processor_ns, per_second_of_work) + bytes_in(wall_ns, per_second);
        earned_ = std::min(for_peak(peak_), earned_ + earned);
    }

    bool can_spend(std::size_t bytes) const { return bytes <= earned_; }
    void spend(std::size_t bytes) { earned_ -= std::min(earned_, bytes); }

    // Half as much again, for what is freed and purged on the way up.
    static constexpr std::size_t for_peak(std::size_t bytes) { return bytes + bytes / 2; }

  private:
    // Of at most an hour, so that nothing overflows.
    static std::size_t bytes_in(std::uint64_t ns, std::size_t per_second) {
        constexpr std::uint64_t hour_ns = std::uint64_t{3600} * 1000 * 1000 * 1000;
        constexpr std::uint64_t ns_of_us = 1000;
        return static_cast<std::size_t>(std::min(ns, hour_ns) / ns_of_us * per_second / 1000000);
    }

    std::size_t peak_ = 0;
    std::size_t earned_ = 0;
};

}  // namespace jemalloc_lua::policy
