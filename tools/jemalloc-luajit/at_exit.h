// What the command does when its state ends: --jemalloc-record closes its file, --jemalloc-stats prints the
// heap's statistics on stderr; once, however the program ends.
#pragma once

#include <lua.hpp>

#include "command_line.h"

namespace jemalloc_lua::command {

// Call it first thing in a new state, in protected mode: it allocates.
void prepare_exit(lua_State *L, const CommandLine &line);

// Begins to write what L asks of its allocator to `path`. 0 or an errno value.
int start_recording(lua_State *L, const char *path);

// Ends the recording, if there is one, and reports what went wrong with its file. To be called before
// jemalloc_lua_close(), which knows only states whose allocator is ours. False if the file isn't whole.
bool stop_recording();

}  // namespace jemalloc_lua::command
