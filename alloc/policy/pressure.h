// How hard the collector is pushed between the soft limit and the hard one.
#pragma once

#include <algorithm>
#include <cstddef>

namespace jemalloc_lua::policy {

// The collector's speed above the soft limit, in percent of the speed of allocation (LuaJIT's default: 200).
// A cycle marks what lives and sweeps what the heap holds, so it must come round within the fifth of the
// limit that is left.
inline constexpr int pushed_stepmul = 1600;

// Bytes between two pushes: an eighth of the way from the soft limit to the hard one, or of a quarter of the
// soft limit where no hard limit lies above it. SIZE_MAX: no hard limit.
constexpr std::size_t push_step(std::size_t limit, std::size_t soft_limit) {
    constexpr std::size_t least = std::size_t{64} << 10;
    const bool open = limit == static_cast<std::size_t>(-1) || limit < soft_limit;
    const std::size_t room = open ? soft_limit / 4 : limit - soft_limit;
    return std::max(room / 8, least);
}

}  // namespace jemalloc_lua::policy
