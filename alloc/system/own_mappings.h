// Which extents are a mapping of their own, from its first page to its last: those may be unmapped, or moved
// as a whole by mremap(). jemalloc 5.3 tells arenas apart by the first extent of each mapping, so a part of
// one must stay mapped.
//
// Extent hooks ask, with jemalloc's locks held. So there is no lock here, and room for a fixed number. What
// finds no room is as any other extent.
#pragma once

#include <cstddef>

namespace jemalloc_lua::own_mappings {

// Smaller extents share mappings.
inline constexpr std::size_t min_size = std::size_t{1} << 20;

void add(const void *ptr, std::size_t size);
bool has(const void *ptr, std::size_t size);
// Whether it was there.
bool remove(const void *ptr, std::size_t size);

}  // namespace jemalloc_lua::own_mappings
