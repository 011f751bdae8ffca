// What of jemalloc's interface is arithmetic: the bits of the *allocx() functions' flags, how many ids they
// have room for, and size classes. Constants that need no header of jemalloc's; jemalloc.h compares them with
// its macros.
//
//   bits 0-5: lg(alignment)   6: zero   8-19: tcache id + 2, or 1 for none   20-31: arena index + 1
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

namespace jemalloc_lua::je {

inline constexpr int align_mask = 0x3f;
inline constexpr int zero_flag = 0x40;
inline constexpr int tcache_shift = 8;
inline constexpr int tcache_mask = 0xfff00;
inline constexpr int no_tcache_flag = 1 << tcache_shift;
inline constexpr int arena_shift = 20;

inline constexpr unsigned tcache_ids = 4094;     // 0 to 4093
inline constexpr unsigned arena_indices = 4095;  // 0 to 4094

// MALLCTL_ARENAS_ALL: what stands for all arenas in a name such as arena.<i>.purge.
inline constexpr unsigned all_arenas = 4096;

// An arena's flag and a tcache's belong together: without a tcache flag the thread's automatic tcache may
// answer with memory of another arena.
constexpr int align_flag(std::size_t alignment) {
    return std::countr_zero(alignment);
}
constexpr int arena_flag(unsigned index) {
    return static_cast<int>((index + 1) << arena_shift);
}
constexpr int tcache_flag(unsigned id) {
    return static_cast<int>((id + 2) << tcache_shift);
}

// Base-2 logarithm of the widest step between two size classes, as jemalloc says when the process starts. Up
// to 5.3.0 steps go on doubling; later ones round what is larger than four pages up to pages, unless an
// option of jemalloc's says otherwise.
extern int widest_step_lg;
inline constexpr int unbounded_step_lg = 63;
inline bool classes_go_on_doubling() {
    return widest_step_lg == unbounded_step_lg;
}

// jemalloc serves a request from a free extent that is at most 2^max_fit_lg times larger:
// opt.lg_extent_max_active_fit, as it says when the process starts.
extern unsigned max_fit_lg;

// The bytes that jemalloc hands out for a request of `size` bytes (1 to PTRDIFF_MAX), with no alignment
// asked for: 16-byte steps up to 128, then four steps to each doubling, none wider than the widest. As
// nallocx(size, 0), which a test compares it with, but inline; requests below 16 are taken as 16, the
// alignment that every block has.
inline std::size_t size_class(std::size_t size) {
    if (size <= 16) return 16;
    const int ceil_lg = std::bit_width(size - 1);
    const int step_lg = ceil_lg < 7 ? 4 : std::min(ceil_lg - 3, widest_step_lg);
    const std::size_t step = std::size_t{1} << step_lg;
    return (size + step - 1) & ~(step - 1);
}

}  // namespace jemalloc_lua::je
