// scrub:true as an entry: what a block loses, all of it or its end, is zeroed before the front sees the
// request. Two other places belong to it: blocks whose contents move (the fronts, and pages/growth.cpp), and
// what is released whole: slabs, all extents at the heap's end (pages/pages.cpp), and the nursery.
#pragma once

#include <cstddef>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

void *scrubbing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

}  // namespace jemalloc_lua
