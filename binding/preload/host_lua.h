// The LuaJIT that the host brought.
//
// The shim links no Lua. What the allocator calls of it (lua_gc, lua_close and so on) is defined in
// host_lua.cpp, and what the module jemalloc calls in host_api.cpp, hidden; it goes on to the one LuaJIT of
// the process whose states are ours. Which that is shows when a state is first asked for: the Lua that the
// caller would have reached without the shim. A second LuaJIT in the same process keeps its own allocator.
#pragma once

extern "C" {
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
}

namespace jemalloc_lua {

struct HostApi;

struct HostLua {
    decltype(&::luaL_newstate) luaL_newstate = nullptr;
    decltype(&::lua_newstate) lua_newstate = nullptr;
    decltype(&::lua_close) lua_close = nullptr;
    decltype(&::lua_gc) lua_gc = nullptr;
    decltype(&::lua_getallocf) lua_getallocf = nullptr;
    decltype(&::lua_setallocf) lua_setallocf = nullptr;
    decltype(&::lua_atpanic) lua_atpanic = nullptr;
    decltype(&::lua_tolstring) lua_tolstring = nullptr;
    bool is_luajit = false;
    const HostApi *api = nullptr;  // what the module jemalloc calls; null before the Lua is served
};

// The Lua behind a call that returns to `caller`. Fields are null where there is none.
HostLua find_lua(const void *caller);

// The Lua whose states are ours.
const HostLua &host_lua();

// What the module jemalloc calls of the Lua that has this function (host_api.cpp); null where something is
// missing.
const HostApi *find_api(const void *lua_function);

// Whether states of this Lua are ours; the first that can be becomes the one of the process. Any thread.
bool serve(const HostLua &lua);

// A line on stderr for the user, where JEMALLOC_LUA_CONF has verbose:true.
void tell(const char *text);

}  // namespace jemalloc_lua
