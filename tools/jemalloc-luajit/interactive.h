// Reading, evaluating, printing.
#pragma once

#include <lua.hpp>

namespace jemalloc_lua::command {

// "JIT: ON ..." on stdout.
void print_jit_status(lua_State *L);

// Lines from stdin until it ends: a line beginning with = prints its value; an incomplete chunk goes on at
// the next line. Lines are edited with readline where the command was built with it and stdin is a terminal.
void interact(lua_State *L);

}  // namespace jemalloc_lua::command
