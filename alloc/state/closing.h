// The entry of a state that jemalloc_lua_close() closes.
//
// Frees are real until the finalizers have run, so finalizers have a heap that works. The sentinel of the
// sweep cut (luajit/sweep_cut.h) tells when they have run. From then on no block is freed, because all memory
// goes with the heap.
#pragma once

#include <cstddef>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

void *closing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

// Closes a state of any origin.
void close_state(lua_State *L);

}  // namespace jemalloc_lua
