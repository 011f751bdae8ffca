// The host's LuaJIT, as one table of functions.
//
// The shim links no Lua. find.cpp finds the LuaJIT that a call would have reached without the shim, and fills
// the table. forward.cpp defines, hidden, what the allocator and the Lua module call of Lua: each function
// goes on to the LuaJIT that is served. That is the first of the process whose states can be ours; a second
// LuaJIT keeps its own allocator.
#pragma once

extern "C" {
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
}

#include <atomic>

// Every function of Lua that we call, with the number of its parameters, by which forward.cpp defines it; its
// type is that in Lua's headers. `by_hand`: forward.cpp or interpose.cpp has a definition of its own.
#define JEMALLOC_LUA_HOST_FUNCTIONS(F) \
    F(luaJIT_setmode, 3)               \
    F(luaL_checknumber, 2)             \
    F(luaL_findtable, 4)               \
    F(luaL_loadbuffer, 4)              \
    F(luaL_newstate, by_hand)          \
    F(luaL_optlstring, 4)              \
    F(lua_atpanic, 2)                  \
    F(lua_call, 3)                     \
    F(lua_close, 1)                    \
    F(lua_cpcall, by_hand)             \
    F(lua_createtable, 3)              \
    F(lua_error, 1)                    \
    F(lua_gc, 3)                       \
    F(lua_getallocf, by_hand)          \
    F(lua_getfield, 3)                 \
    F(lua_getinfo, 3)                  \
    F(lua_getstack, 3)                 \
    F(lua_newstate, by_hand)           \
    F(lua_newuserdata, 2)              \
    F(lua_pcall, 4)                    \
    F(lua_pushboolean, 2)              \
    F(lua_pushcclosure, 3)             \
    F(lua_pushlightuserdata, 2)        \
    F(lua_pushlstring, 3)              \
    F(lua_pushnil, 1)                  \
    F(lua_pushnumber, 2)               \
    F(lua_pushstring, 2)               \
    F(lua_pushvalue, 2)                \
    F(lua_pushvfstring, 3)             \
    F(lua_setallocf, 3)                \
    F(lua_setfield, 3)                 \
    F(lua_setmetatable, 2)             \
    F(lua_settop, 2)                   \
    F(lua_tointeger, 2)                \
    F(lua_tolstring, 3)                \
    F(lua_topointer, 2)                \
    F(lua_touserdata, 2)               \
    F(lua_type, 2)

namespace jemalloc_lua {

// One Lua of the process; a function that it lacks is null. Never freed.
struct Host {
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define JEMALLOC_LUA_FIELD(name, parameters) decltype(&::name) name = nullptr;
    JEMALLOC_LUA_HOST_FUNCTIONS(JEMALLOC_LUA_FIELD)
#undef JEMALLOC_LUA_FIELD
    bool is_luajit = false;
    bool is_complete = false;  // it lacks none of the functions
    mutable std::atomic<bool> takes_no_allocator{false};
    const Host *next = nullptr;  // of the list of those that were found
};

// The Lua behind a call that returns to `caller`. Any thread.
const Host &find_host(const void *caller);

// Whether states of this Lua are ours; the first that can be served becomes the one of the process. Any
// thread.
bool serve(const Host &host);

// The Lua that is served. Before there is one, for a host that calls jemalloc_lua_*() itself: the one it
// sees.
const Host &served_host();

// A line on stderr for the user, where JEMALLOC_LUA_CONF has verbose:true.
void tell(const char *text);

}  // namespace jemalloc_lua
