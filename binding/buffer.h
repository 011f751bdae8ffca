// The memory of the module's buffers: see buffer.cpp.
#pragma once

struct lua_State;

namespace jemalloc_lua {

// Puts what buffer.lua needs into the table at `native`, whose `functions` are filled in.
void add_buffer_memory(lua_State *L, int native);

}  // namespace jemalloc_lua
