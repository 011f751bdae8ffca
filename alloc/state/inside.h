// The inside of the allocator as binding/, bench/ and tools/ see it: the one header of alloc/ that they
// include besides the public one. It does not need jemalloc's header.
#pragma once

#include <cstddef>

#include "base/process.h"
#include "config/options.h"
#include "heap/observer.h"
#include "heap/stats.h"
#include "jemalloc_lua.h"
#include "luajit/layout.h"
#include "system/flags.h"
#include "system/provider.h"

namespace jemalloc_lua {

// The heap of a state; null for a state that is not ours.
Heap *heap_of(lua_State *L);

// All statistics of a heap but `live`, which only Lua knows. Another thread may be using the heap: then the
// numbers are approximate.
void count_heap(const Heap *heap, jemalloc_lua_stats *stats);

// Charges a heap with bytes that are held elsewhere, as those of the module's buffers: they count towards its
// footprint and its limit. The heap gives up its idle memory first if need be. False: refused, and counted as
// a refusal; nothing is charged. Runs no Lua and collects nothing: the caller may do that, and try again.
bool charge(Heap *heap, std::size_t bytes);
void uncharge(Heap *heap, std::size_t bytes);

// The bytes that a heap's limit leaves; SIZE_MAX where it has none.
std::size_t room_of(const Heap *heap);

}  // namespace jemalloc_lua
