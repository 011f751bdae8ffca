// Which arena a heap's memory comes from.
#pragma once

#include <algorithm>
#include <cstddef>

namespace jemalloc_lua::policy {

// arena:auto: the footprint from which a heap has an arena of its own. Blocks that jemalloc lays out leave
// gaps between them, which can't be counted in an arena that others use, so such heaps migrate early.
constexpr std::size_t migration_threshold(std::size_t wanted, bool jemalloc_lays_out_blocks) {
    constexpr std::size_t early = std::size_t{1} << 20;
    return jemalloc_lays_out_blocks ? std::min(wanted, early) : wanted;
}

// Bytes that a heap may free on its first arena after it has migrated, before that arena is purged.
inline constexpr std::size_t max_dirty_on_first_arena = std::size_t{512} << 10;

}  // namespace jemalloc_lua::policy
