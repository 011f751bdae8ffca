// The inside of the allocator as binding/, bench/ and tools/ see it: the one header of alloc/ that they
// include besides the public one. It does not need jemalloc's header.
#pragma once

#include <cstddef>

#include "base/address_table.h"
#include "base/process.h"
#include "config/options.h"
#include "heap/at_end.h"
#include "heap/observer.h"
#include "heap/stats.h"
#include "jemalloc_lua.h"
#include "luajit/layout.h"
#include "system/flags.h"
#include "system/ids.h"
#include "system/provider.h"

namespace jemalloc_lua {

// The heap of a state; null for a state that is not ours.
Heap *heap_of(lua_State *L);

// All statistics of a heap but `live`, which only Lua knows. Another thread may be using the heap: then the
// numbers are approximate.
void count_heap(const Heap *heap, jemalloc_lua_stats *stats);

// A block of a heap's that is not Lua's, as those of the module's buffers: allocated, resized and freed as by
// lua_Alloc, and with all that holds for Lua's own. Aligned to 16 bytes. Null: refused, and counted as a
// refusal. Runs no Lua and collects nothing: the caller may do that, and try again.
void *resize_block(Heap *heap, void *block, std::size_t old_size, std::size_t new_size);
// Whether blocks that were never freed go with the heap without a word: the direct front does not know its
// blocks, and a verified heap reports them.
bool knows_blocks(const Heap *heap);
// Makes memory read as zeros. Large parts are not touched.
void clear(void *memory, std::size_t bytes);

// Charges a heap with bytes that are held elsewhere, as those of buffers in an arena: they count towards its
// footprint and its limit. The heap gives up its idle memory first if need be. False: refused, and counted as
// a refusal; nothing is charged.
bool charge(Heap *heap, std::size_t bytes);
void uncharge(Heap *heap, std::size_t bytes);
// The same for bytes that were never held, because there was no memory.
void undo_charge(Heap *heap, std::size_t bytes);

// The bytes that a heap's limit leaves; SIZE_MAX where it has none.
std::size_t room_of(const Heap *heap);

// Calls what->run() at the heap's end: finalizers have run, no Lua runs any more, and blocks may still be
// freed.
void at_end(Heap *heap, AtEnd *what);

}  // namespace jemalloc_lua
