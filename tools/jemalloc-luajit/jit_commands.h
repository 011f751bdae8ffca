// -j, -O and -b: functions of LuaJIT's `jit` and `jit.opt` tables, or its jit.* modules written in Lua, which
// the command finds through package.path.
#pragma once

#include <lua.hpp>

namespace jemalloc_lua::command {

// -j NAME[=arg,arg]: jit.NAME(...), else require('jit.NAME').start(...). 0, or what failed is reported.
int run_jit_command(lua_State *L, const char *text);

// -O[arg,arg]: jit.opt.start(...).
int run_optimisation(lua_State *L, const char *text);

// -b: require('jit.bcsave').start(...) with the rest of the command line; words[0] is the -b. Reports what
// fails. Returns 1 when the module is missing, else 0: luajit does not make a failed -b its exit code.
int run_bytecode(lua_State *L, char **words);

}  // namespace jemalloc_lua::command
