// How a huge block grows: where it may begin, and which of its pages are mapped before they are touched.
#pragma once

#include <algorithm>
#include <cstddef>

namespace jemalloc_lua::policy {

// The kernel moves a page table as a whole where it maps nothing else: 512 pages at the price of one. Only
// blocks that grow to many page tables begin at one. jemalloc seldom finds an aligned range among freed ones
// (eset_fit_alignment() in jemalloc 5.3 looks at one range of each size), and takes fresh memory instead.
inline constexpr std::size_t min_aligned_growth = std::size_t{8} << 20;

// Of the bytes that a huge block gains, how many are surely written next: all, where the block is cleared at
// once. Of a buffer that doubles because it is full, a quarter is taken for that.
inline std::size_t surely_written(std::size_t old_size, std::size_t new_size, bool cleared_at_once) {
    const std::size_t gained = new_size - old_size;
    if (cleared_at_once) return gained;
    return std::min(gained, old_size) / 4;
}

}  // namespace jemalloc_lua::policy
