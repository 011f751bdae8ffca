// --jemalloc-stats: the heap's statistics on stderr, once, however the program ends.
#pragma once

#include <lua.hpp>

#include "command_line.h"

namespace jemalloc_lua::command {

// Call it first thing in a new state, in protected mode: it allocates.
void print_stats_at_exit(lua_State *L, Stats format);

}  // namespace jemalloc_lua::command
