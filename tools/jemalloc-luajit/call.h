// Calling Lua from the command: protected, with a traceback, stopped by Ctrl-C, errors told on stderr.
// A status is one of lua_pcall()'s; 0 is success.
#pragma once

#include <lua.hpp>

namespace jemalloc_lua::command {

// What messages begin with; null while interactive, where they begin with nothing.
extern const char *program_name;

// One line on stderr.
void message(const char *text);

// Tells the error on top of the stack if status is one (and it is not nil), pops it, returns status.
int report(lua_State *L, int status);

enum class Results { dropped, kept };

// Calls the function below its narg arguments. An error leaves the message with a traceback on the stack.
int call(lua_State *L, int narg, Results results);

// A whole chunk, reported. A null name is stdin.
int run_file(lua_State *L, const char *name);
int run_text(lua_State *L, const char *text, const char *name);

}  // namespace jemalloc_lua::command
