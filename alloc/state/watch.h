// For who wants to know of the heaps that states own.
#pragma once

#include "heap/heap.h"
#include "state/inside.h"

namespace jemalloc_lua {

// Called for each heap whose state has been made; null: no one wants to know. Set before the first state. To
// hear of the heap's end as well, the callee replaces heap->front by a copy with a `destroy` of its own.
inline void (*heap_begun)(Heap *) = nullptr;

// What is in use in a state, as Lua counts it.
std::size_t live_bytes(lua_State *L);

}  // namespace jemalloc_lua
