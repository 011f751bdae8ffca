// The Lua module `jemalloc`: runs its Lua source, which the build makes part of this file (sources.h, from
// lua/).
//
// The same code is in two places: in jemalloc.so, which stock interpreters load, and in libjemalloc_lua,
// whose states find it under package.preload without a file. Where a process has both, the library's copy
// serves, so that one jemalloc serves the heaps and the module.
//
// Each chunk of Lua is called with (J, native): the module's table, which it extends, and a table of what the
// chunks share. C++ fills `native` with the addresses of jemalloc's functions and with what only C++ can do.

#include "module.h"

#include <dlfcn.h>

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include <cstring>
#include <string_view>

#include "memory.h"
#include "sources.h"
#include "state/extras.h"
#include "state/inside.h"

// Weak, because the library must also link with hosts whose Lua is not LuaJIT and lacks some of these. The
// module is opened in LuaJIT only.
#pragma weak lua_call
#pragma weak lua_cpcall
#pragma weak lua_tointeger
#pragma weak luaL_findtable
#pragma weak luaL_loadbuffer

namespace jemalloc_lua {
namespace {

// errno -> text
int strerror_of(lua_State *L) {
    lua_pushstring(L, std::strerror(static_cast<int>(lua_tointeger(L, 1))));
    return 1;
}

// (message): raises an error that points at the line which called the module, whatever the depth of the check
// that has failed.
int fail(lua_State *L) {
    constexpr std::string_view own = "@jemalloc/";  // sources.h
    lua_Debug at{};
    int level = 1;
    while (lua_getstack(L, level, &at) != 0) {
        lua_getinfo(L, "Sl", &at);
        if (!std::string_view(at.source).starts_with(own)) break;
        at.currentline = 0;
        ++level;
    }
    if (at.currentline > 0) {
        lua_pushfstring(L, "%s:%d: %s", at.short_src, at.currentline, lua_tolstring(L, 1, nullptr));
    }
    return lua_error(L);
}

// native.flags: the constants of jemalloc's interface (system/flags.h).
constexpr struct {
    const char *name;
    double value;
} flags[] = {
    {"ALIGN_MASK", je::align_mask},     {"ZERO", je::zero_flag},
    {"TCACHE_SHIFT", je::tcache_shift}, {"TCACHE_MASK", je::tcache_mask},
    {"TCACHE_IDS", je::tcache_ids},     {"TCACHE_NONE", je::no_tcache_flag},
    {"ARENA_SHIFT", je::arena_shift},   {"ARENA_INDICES", je::arena_indices},
    {"ALL_ARENAS", je::all_arenas},     {"SHARED_ARENA", Ids::shared},
};

// native.structs: the structs that C++ and Lua share (structs.h).
constexpr struct {
    const char *name;
    const char *cdef;
} structs[] = {
    {name_of_Tcache, cdef_of_Tcache},
    {name_of_ArenaBlock, cdef_of_ArenaBlock},
    {name_of_Arena, cdef_of_Arena},
    {name_of_Buffer, cdef_of_Buffer},
};

// The copy of the module that serves this process: that of its libjemalloc_lua if there is one, else this.
lua_CFunction serving_copy() {
    void *found = dlsym(RTLD_DEFAULT, "luaopen_jemalloc");
    return found != nullptr ? reinterpret_cast<lua_CFunction>(found) : luaopen_jemalloc;
}

int open(lua_State *L) {
    lua_settop(L, 0);
    lua_createtable(L, 0, 48);  // J
    lua_createtable(L, 0, 32);  // native
    set_function(L, 2, "fail", fail);
    set_function(L, 2, "strerror", strerror_of);
    lua_createtable(L, 0, 16);
    for (const auto &flag : flags) set_number(L, flag.name, flag.value);
    lua_setfield(L, 2, "flags");
    lua_createtable(L, 0, 4);
    for (const auto &each : structs) {
        lua_pushstring(L, each.cdef);
        lua_setfield(L, -2, each.name);
    }
    lua_setfield(L, 2, "structs");
    add_provider(L, 2);
    add_memory(L, 2);
    add_buffers(L, 2);
    add_arenas(L, 2);
    add_heap(L, 2);
    for (const Source &source : sources) {
        if (luaL_loadbuffer(L, source.text, source.length, source.name) != 0) return lua_error(L);
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_call(L, 2, 0);
    }
    lua_settop(L, 1);
    return 1;
}

// Puts the module's opener into the table of the registry that luaopen_package() makes package.preload.
int add_opener(lua_State *L) {
    luaL_findtable(L, LUA_REGISTRYINDEX, "_PRELOAD", 4);
    lua_pushcclosure(L, luaopen_jemalloc, 0);
    lua_setfield(L, -2, "jemalloc");
    return 0;
}

int preload_module(lua_State *L) {
    return lua_cpcall(L, add_opener, nullptr);
}

}  // namespace

const StateExtra state_extras[] = {preload_module, nullptr};

}  // namespace jemalloc_lua

int luaopen_jemalloc(lua_State *L) {
    const lua_CFunction copy = jemalloc_lua::serving_copy();
    return copy == luaopen_jemalloc ? jemalloc_lua::open(L) : copy(L);
}
