// The opener of the Lua module `jemalloc`, in jemalloc.so and in libjemalloc_lua.
#pragma once

struct lua_State;

extern "C" __attribute__((visibility("default"))) int luaopen_jemalloc(lua_State *L);
