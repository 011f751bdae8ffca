// Which jemalloc the module binds, and its report of statistics, which only C++ can collect.

#include <dlfcn.h>

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "memory.h"

// Weak: see module.cpp.
#pragma weak lua_pcall

namespace jemalloc_lua {
namespace {

// Pushes the prefix that the Lua global or the environment variable JEMALLOC_PREFIX asks for; "" for none.
const char *push_wanted_prefix(lua_State *L) {
    lua_getfield(L, LUA_GLOBALSINDEX, "JEMALLOC_PREFIX");
    if (const char *global = lua_tolstring(L, -1, nullptr)) return global;
    lua_settop(L, -2);
    const char *environment = std::getenv("JEMALLOC_PREFIX");
    lua_pushstring(L, environment != nullptr ? environment : "");
    return lua_tolstring(L, -1, nullptr);
}

void *process_function(const char *prefix, const char *name) {
    char symbol[256];
    const int length = std::snprintf(symbol, sizeof symbol, "%s%s", prefix, name);
    return length > 0 && length < int{sizeof symbol} ? dlsym(RTLD_DEFAULT, symbol) : nullptr;
}

// ---- jemalloc's report

using StatsPrint = void (*)(void (*)(void *, const char *), void *, const char *);

StatsPrint stats_print_argument(lua_State *L) {
    return reinterpret_cast<StatsPrint>(lua_touserdata(L, 1));
}

// (address of malloc_stats_print, opts or nil): prints the report where jemalloc itself prints, on stderr.
int stats_print(lua_State *L) {
    stats_print_argument(L)(nullptr, nullptr, luaL_optlstring(L, 2, nullptr, nullptr));
    return 0;
}

// (address of malloc_stats_print, opts or nil) -> the report. jemalloc holds locks while it prints, so the
// text is collected without Lua: neither a Lua error nor an allocation of Lua's may happen meanwhile.
int stats_text(lua_State *L) {
    const char *opts = luaL_optlstring(L, 2, nullptr, nullptr);
    std::string *text = new (std::nothrow) std::string;
    if (text == nullptr) return 0;
    const auto write = [](void *to, const char *part) {
        try {
            static_cast<std::string *>(to)->append(part);
        } catch (const std::bad_alloc &) {  // the report ends here
        }
    };
    stats_print_argument(L)(write, text, opts);
    // lua_pushlstring() may raise an error, which would leak the text, so it is called where errors are
    // caught.
    const auto push = [](lua_State *state) {
        const auto *from = static_cast<const std::string *>(lua_touserdata(state, 1));
        lua_pushlstring(state, from->data(), from->size());
        return 1;
    };
    lua_pushcclosure(L, push, 0);
    lua_pushlightuserdata(L, text);
    const int status = lua_pcall(L, 1, 1, 0);
    delete text;
    if (status != 0) return lua_error(L);
    return 1;
}

}  // namespace

void add_provider(lua_State *L, int native) {
    const char *wanted = push_wanted_prefix(L);
    const bool none = *wanted == '\0';
    const bool in_process = process_function(wanted, "mallocx") != nullptr;
    if (!in_process && !none && std::strcmp(wanted, je::prefix) != 0) {
        lua_pushfstring(L,
                        "jemalloc: JEMALLOC_PREFIX is '%s', but the process has no function %smallocx: "
                        "preload that jemalloc, or unset JEMALLOC_PREFIX",
                        wanted, wanted);
        lua_error(L);
    }
    lua_createtable(L, 0, 32);
    for (const je::Function *function = je::functions; function->name != nullptr; ++function) {
        void *address = in_process ? process_function(wanted, function->name) : function->address;
        if (address != nullptr) set_address(L, function->name, address);
    }
    set_address(L, "memmove", reinterpret_cast<void *>(std::memmove));
    lua_setfield(L, native, "functions");
    lua_pushstring(L, in_process ? wanted : je::prefix);
    lua_setfield(L, native, "prefix");
    lua_pushstring(L, !in_process ? "own" : none ? "process" : "prefix");
    lua_setfield(L, native, "provider");
    lua_settop(L, -2);
    set_function(L, native, "stats_print", stats_print);
    set_function(L, native, "stats_text", stats_text);
}

}  // namespace jemalloc_lua
