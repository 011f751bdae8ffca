// Memory that a state's heap answers for without holding it: the module's buffers, which count towards the
// limit of the state that made them.
#pragma once

#include <cstddef>

struct lua_State;
struct jemalloc_lua_heap;

namespace jemalloc_lua {

// The heap of a state, or null for a state that is not ours.
jemalloc_lua_heap *heap_of(lua_State *L);

// Whether `bytes` more may be held, after giving up what the heap keeps unused if need be; if so they are
// counted. Runs no Lua and collects nothing: the caller may do that, and try again.
bool hold(jemalloc_lua_heap *heap, std::size_t bytes);
void let_go(jemalloc_lua_heap *heap, std::size_t bytes);

}  // namespace jemalloc_lua
