// The entry of a state that jemalloc_lua_close() closes.
//
// Frees are real until the finalizers have run: the heap works as ever for them. The sentinel of the sweep
// cut (luajit/sweep_cut.h) tells when that is so. From then on nothing is freed block by block, since all
// memory goes with the heap.
#pragma once

#include <cstddef>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

void *closing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

// Closes a state of any origin.
void close_state(lua_State *L);

}  // namespace jemalloc_lua
