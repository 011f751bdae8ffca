// What the Lua module `jemalloc` calls of Lua (binding/module.cpp is in the shim too), and the allocator
// where it has Lua run something: hidden functions that go on to the host's LuaJIT. Errors that it raises
// pass through them, as they hold nothing.
//
// All begins with lua_cpcall(). Where the host's LuaJIT does not show all of these functions, that call does
// nothing, and the state is without the module.

#include <dlfcn.h>
#include <link.h>

#include <cstdarg>

#include "host_lua.h"

// clang-format off
#define JEMALLOC_LUA_HOST_API(F)                                                                              \
    F(luaJIT_setmode) F(luaL_checknumber) F(luaL_findtable) F(luaL_loadbuffer) F(luaL_optlstring)             \
    F(lua_call) F(lua_cpcall) F(lua_createtable) F(lua_error) F(lua_getfield) F(lua_newuserdata)              \
    F(lua_pcall) F(lua_pushboolean) F(lua_pushcclosure) F(lua_pushlightuserdata) F(lua_pushlstring)           \
    F(lua_pushnil) F(lua_pushnumber) F(lua_pushstring) F(lua_pushvalue) F(lua_pushvfstring) F(lua_setfield)   \
    F(lua_settop) F(lua_tointeger) F(lua_topointer) F(lua_touserdata) F(lua_type)
// clang-format on

namespace jemalloc_lua {

struct HostApi {
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define JEMALLOC_LUA_FIELD(name) decltype(&::name) name = nullptr;
    JEMALLOC_LUA_HOST_API(JEMALLOC_LUA_FIELD)
#undef JEMALLOC_LUA_FIELD
};

const HostApi *find_api(const void *lua_function) {
    Dl_info info;
    link_map *map = nullptr;
    if (dladdr1(lua_function, &info, reinterpret_cast<void **>(&map), RTLD_DL_LINKMAP) == 0) return nullptr;
    void *handle = dlopen(map->l_name[0] == '\0' ? nullptr : map->l_name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) return nullptr;
    bool complete = true;
    auto *api = new HostApi;
    const auto find = [&]<class F>(const char *name, F *function) {
        *function = reinterpret_cast<F>(dlsym(handle, name));
        complete = complete && *function != nullptr;
    };
#define JEMALLOC_LUA_FIND(name) find(#name, &api->name);
    JEMALLOC_LUA_HOST_API(JEMALLOC_LUA_FIND)
#undef JEMALLOC_LUA_FIND
    dlclose(handle);
    if (complete) return api;
    delete api;
    return nullptr;
}

}  // namespace jemalloc_lua

static const jemalloc_lua::HostApi &api() {
    return *jemalloc_lua::host_lua().api;
}

extern "C" {

int lua_cpcall(lua_State *L, lua_CFunction f, void *ud) {
    return jemalloc_lua::host_lua().api == nullptr ? 0 : api().lua_cpcall(L, f, ud);
}

lua_Number luaL_checknumber(lua_State *L, int argument) {
    return api().luaL_checknumber(L, argument);
}

const char *luaL_findtable(lua_State *L, int index, const char *name, int size) {
    return api().luaL_findtable(L, index, name, size);
}

int luaL_loadbuffer(lua_State *L, const char *text, size_t length, const char *name) {
    return api().luaL_loadbuffer(L, text, length, name);
}

const char *luaL_optlstring(lua_State *L, int argument, const char *otherwise, size_t *length) {
    return api().luaL_optlstring(L, argument, otherwise, length);
}

void lua_call(lua_State *L, int arguments, int results) {
    api().lua_call(L, arguments, results);
}

void lua_createtable(lua_State *L, int array, int hash) {
    api().lua_createtable(L, array, hash);
}

int lua_error(lua_State *L) {
    return api().lua_error(L);
}

void lua_getfield(lua_State *L, int index, const char *name) {
    api().lua_getfield(L, index, name);
}

void *lua_newuserdata(lua_State *L, size_t size) {
    return api().lua_newuserdata(L, size);
}

int lua_pcall(lua_State *L, int arguments, int results, int handler) {
    return api().lua_pcall(L, arguments, results, handler);
}

void lua_pushboolean(lua_State *L, int value) {
    api().lua_pushboolean(L, value);
}

void lua_pushcclosure(lua_State *L, lua_CFunction f, int upvalues) {
    api().lua_pushcclosure(L, f, upvalues);
}

const char *lua_pushfstring(lua_State *L, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *text = api().lua_pushvfstring(L, format, args);
    va_end(args);
    return text;
}

void lua_pushlightuserdata(lua_State *L, void *pointer) {
    api().lua_pushlightuserdata(L, pointer);
}

void lua_pushlstring(lua_State *L, const char *text, size_t length) {
    api().lua_pushlstring(L, text, length);
}

void lua_pushnil(lua_State *L) {
    api().lua_pushnil(L);
}

void lua_pushnumber(lua_State *L, lua_Number number) {
    api().lua_pushnumber(L, number);
}

void lua_pushstring(lua_State *L, const char *text) {
    api().lua_pushstring(L, text);
}

void lua_pushvalue(lua_State *L, int index) {
    api().lua_pushvalue(L, index);
}

void lua_setfield(lua_State *L, int index, const char *name) {
    api().lua_setfield(L, index, name);
}

void lua_settop(lua_State *L, int index) {
    api().lua_settop(L, index);
}

lua_Integer lua_tointeger(lua_State *L, int index) {
    return api().lua_tointeger(L, index);
}

const void *lua_topointer(lua_State *L, int index) {
    return api().lua_topointer(L, index);
}

void *lua_touserdata(lua_State *L, int index) {
    return api().lua_touserdata(L, index);
}

int lua_type(lua_State *L, int index) {
    return api().lua_type(L, index);
}

int luaJIT_setmode(lua_State *L, int index, int mode) {
    return api().luaJIT_setmode(L, index, mode);
}
}
