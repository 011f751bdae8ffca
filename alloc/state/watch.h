// For who wants to know of the heaps that states own.
#pragma once

#include "heap/heap.h"
#include "state/inside.h"

namespace jemalloc_lua {

// Called for each heap whose state has been made; null: no one wants to know. Set before the first state. To
// hear of the heap's end as well, the callee replaces heap->front by a copy with a `destroy` of its own.
inline void (*heap_begun)(Heap *) = nullptr;

// sizeof(jemalloc_lua_stats) of version 1.0, whose last field was `fallbacks`.
inline constexpr std::size_t first_stats_size =
    (offsetof(jemalloc_lua_stats, fallbacks) + sizeof(unsigned) + alignof(jemalloc_lua_stats) - 1) /
    alignof(jemalloc_lua_stats) * alignof(jemalloc_lua_stats);

// What is in use in a state, as Lua counts it.
std::size_t live_bytes(lua_State *L);

}  // namespace jemalloc_lua
