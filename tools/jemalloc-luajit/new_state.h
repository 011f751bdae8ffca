// The state that a command line asks for: on which allocator, with which options.
#pragma once

#include <lua.hpp>
#include <string>

#include "command_line.h"
#include "jemalloc_lua.h"

namespace jemalloc_lua::command {

// The heap's options: the defaults, JEMALLOC_LUA_CONF over them (not with -E), --jemalloc over both. False
// and the reason for a bad pair in --jemalloc.
bool heap_options(const CommandLine &line, jemalloc_lua_options *options, std::string *why);

// Whether the state has a limit, and what to say when it is so low that there is no room for libraries.
bool limits(const CommandLine &line, const jemalloc_lua_options &options);
std::string limit_too_small(const jemalloc_lua_options &options);

// A state, or null and the reason.
lua_State *new_state(const CommandLine &line, const jemalloc_lua_options &options, std::string *why);

}  // namespace jemalloc_lua::command
