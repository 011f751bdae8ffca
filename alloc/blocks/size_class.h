// Size classes of blocks.
//
// Small blocks lie in slabs of one class: steps of 16 bytes to 256, of 32 to 512, of 64 to 1024. Large ones
// have jemalloc's classes; freed large blocks up to max_kept are kept by class for the next request.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "config/options.h"

namespace jemalloc_lua {

inline constexpr unsigned class_count = 32;

constexpr std::size_t class_size(unsigned index) {
    if (index < 16) return 16 * (index + 1);
    if (index < 24) return 256 + 32 * (index - 15);
    return 512 + 64 * (index - 23);
}

// By size in units of 16 bytes, rounded up.
inline constexpr auto class_table = [] {
    std::array<std::uint8_t, max_small / 16 + 1> table{};
    unsigned index = 0;
    for (std::size_t units = 1; units < table.size(); ++units) {
        if (units * 16 > class_size(index)) ++index;
        table[units] = static_cast<std::uint8_t>(index);
    }
    return table;
}();

constexpr unsigned class_of(std::size_t size) {
    return class_table[(size + 15) / 16];
}

inline constexpr std::size_t max_in_nursery = std::size_t{32} << 10;
inline constexpr std::size_t max_kept = std::size_t{256} << 10;
inline constexpr unsigned kept_classes = 48;

// Index of jemalloc's size class for sizes 65 to max_kept.
constexpr unsigned kept_class(std::size_t size) {
    const auto ceil_lg = static_cast<unsigned>(std::bit_width(size - 1));
    return (ceil_lg - 7) * 4 + static_cast<unsigned>((size - 1) >> (ceil_lg - 3) & 3);
}
static_assert(kept_class(65) == 0 && kept_class(max_kept) < kept_classes);

}  // namespace jemalloc_lua
