// The Lua module `jemalloc`: finds the jemalloc to bind and runs the module's Lua source, which is compiled
// into this file's neighbour (sources.h, made from binding/lua/ by the build).
//
// The same code is in two places: in jemalloc.so, which stock interpreters load, and in libjemalloc_lua,
// whose states find it under package.preload without any file. Where both are in a process the library's
// copy serves, so that one jemalloc serves backend and module.
//
// Every chunk of Lua is called with (J, native): the module's table, which it extends, and a table of what
// the chunks share. C++ puts into `native` the addresses of jemalloc's functions and what only C can do.

#include "module.h"

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
#include <string_view>

#include "memory.h"
#include "sources.h"
#include "state/extras.h"
#include "state/inside.h"

// Weak, because the library must also link with hosts whose Lua is not LuaJIT and lacks some of these; the
// module is opened in LuaJIT only.
#pragma weak lua_call
#pragma weak lua_cpcall
#pragma weak lua_pcall
#pragma weak lua_tointeger
#pragma weak luaL_findtable
#pragma weak luaL_loadbuffer

namespace jemalloc_lua {
namespace {

// ---- What only C can do for the Lua side

// errno -> text
int strerror_of(lua_State *L) {
    lua_pushstring(L, std::strerror(static_cast<int>(lua_tointeger(L, 1))));
    return 1;
}

// (message): raises it as an error at the line that called the module, however deep in it the call has
// failed.
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

using StatsPrint = void (*)(void (*)(void *, const char *), void *, const char *);

StatsPrint stats_print_argument(lua_State *L) {
    return reinterpret_cast<StatsPrint>(lua_touserdata(L, 1));
}

// (address of malloc_stats_print, opts or nil): to where jemalloc prints by itself, stderr
int stats_print(lua_State *L) {
    stats_print_argument(L)(nullptr, nullptr, luaL_optlstring(L, 2, nullptr, nullptr));
    return 0;
}

// (address of malloc_stats_print, opts or nil) -> text. Collected in C, as jemalloc must not be left by a
// Lua error, nor Lua called from inside it.
int stats_text(lua_State *L) {
    const char *opts = luaL_optlstring(L, 2, nullptr, nullptr);
    std::string *text = new (std::nothrow) std::string;
    if (text == nullptr) return 0;
    const auto write = [](void *to, const char *part) {
        try {
            static_cast<std::string *>(to)->append(part);
        } catch (const std::bad_alloc &) {  // the text ends here
        }
    };
    stats_print_argument(L)(write, text, opts);
    // A Lua error for want of memory would leak the text: push it where errors are caught.
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

// ---- The heap of the running state

int not_ours(lua_State *L) {
    lua_pushnil(L);
    lua_pushstring(L, "this state does not run on a heap of jemalloc_lua");
    return 2;
}

// () -> a table with the fields of jemalloc_lua_stats
int heap_stats(lua_State *L) {
    Stats stats{};
    stats.size = sizeof stats;
    if (jemalloc_lua_get_stats(L, &stats) != 0) return not_ours(L);
    lua_createtable(L, 0, static_cast<int>(statistics().size()));
    for (const Statistic &row : statistics()) {
        const std::uint64_t value = value_of(stats, row);
        if (row.unit == Unit::word) {
            lua_pushstring(L, word_of(row, value));
        } else {
            lua_pushnumber(L, static_cast<double>(value));
        }
        lua_setfield(L, -2, row.name);
    }
    return 1;
}

// (bytes) -> true
int heap_set_limit(lua_State *L) {
    if (jemalloc_lua_set_limit(L, static_cast<std::size_t>(luaL_checknumber(L, 1))) != 0) return not_ours(L);
    lua_pushboolean(L, 1);
    return 1;
}

// () -> bytes released
int heap_trim(lua_State *L) {
    unsigned arena = 0;
    if (jemalloc_lua_get_arena(L, &arena) != 0) return not_ours(L);
    lua_pushnumber(L, static_cast<double>(jemalloc_lua_trim(L)));
    return 1;
}

// ---- Which jemalloc

// Leaves on the stack the prefix asked for in the Lua global or the environment variable JEMALLOC_PREFIX; ""
// for none.
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

// Fills native's `functions`, `prefix` and `provider`; a message where the wanted jemalloc is not there.
const char *bind(lua_State *L, int native) {
    const char *wanted = push_wanted_prefix(L);
    const bool none = *wanted == '\0';
    const bool in_process = process_function(wanted, "mallocx") != nullptr;
    if (!in_process && !none && std::strcmp(wanted, je::prefix) != 0) {
        return lua_pushfstring(
            L,
            "jemalloc: JEMALLOC_PREFIX is '%s', but the process has no function %smallocx: "
            "preload that jemalloc, or unset JEMALLOC_PREFIX",
            wanted, wanted);
    }
    lua_createtable(L, 0, 32);
    for (const je::Function *function = je::functions; function->name != nullptr; ++function) {
        void *address = in_process ? process_function(wanted, function->name) : function->address;
        if (address == nullptr) continue;
        set_address(L, function->name, address);
    }
    set_address(L, "memmove", reinterpret_cast<void *>(std::memmove));
    lua_setfield(L, native, "functions");
    lua_pushstring(L, in_process ? wanted : je::prefix);
    lua_setfield(L, native, "prefix");
    lua_pushstring(L, !in_process ? "own" : none ? "process" : "prefix");
    lua_setfield(L, native, "provider");
    lua_settop(L, -2);
    return nullptr;
}

// ---- Opening

constexpr struct {
    const char *name;
    lua_CFunction function;
} helpers[] = {
    {"fail", fail},
    {"strerror", strerror_of},
    {"stats_print", stats_print},
    {"stats_text", stats_text},
    {"heap_stats", heap_stats},
    {"heap_set_limit", heap_set_limit},
    {"heap_trim", heap_trim},
};

// Of jemalloc's interface (system/flags.h), under the names of `native.flags`.
constexpr struct {
    const char *name;
    double value;
} flags[] = {
    {"ALIGN_MASK", je::align_mask},     {"ZERO", je::zero_flag},
    {"TCACHE_SHIFT", je::tcache_shift}, {"TCACHE_MASK", je::tcache_mask},
    {"TCACHE_IDS", je::tcache_ids},     {"TCACHE_NONE", je::no_tcache_flag},
    {"ARENA_SHIFT", je::arena_shift},   {"ARENA_INDICES", je::arena_indices},
    {"ALL_ARENAS", je::all_arenas},
};

constexpr struct {
    const char *name;
    const char *cdef;
} structs[] = {
    {name_of_Tcache, cdef_of_Tcache},
    {name_of_ArenaBlock, cdef_of_ArenaBlock},
    {name_of_Arena, cdef_of_Arena},
    {name_of_Buffer, cdef_of_Buffer},
};

// The copy of the module that serves this process: that of a libjemalloc_lua in it, or this one.
lua_CFunction serving_copy() {
    void *found = dlsym(RTLD_DEFAULT, "luaopen_jemalloc");
    return found != nullptr ? reinterpret_cast<lua_CFunction>(found) : luaopen_jemalloc;
}

int open(lua_State *L) {
    lua_settop(L, 0);
    lua_createtable(L, 0, 48);  // J
    lua_createtable(L, 0, 32);  // native
    for (const auto &helper : helpers) {
        lua_pushcclosure(L, helper.function, 0);
        lua_setfield(L, 2, helper.name);
    }
    lua_createtable(L, 0, 16);
    for (const auto &flag : flags) set_number(L, flag.name, flag.value);
    lua_setfield(L, 2, "flags");
    lua_createtable(L, 0, 4);
    for (const auto &each : structs) {
        lua_pushstring(L, each.cdef);
        lua_setfield(L, -2, each.name);
    }
    lua_setfield(L, 2, "structs");
    if (bind(L, 2) != nullptr) return lua_error(L);
    add_memory(L, 2);
    add_buffers(L, 2);
    add_arenas(L, 2);
    for (const Source &source : sources) {
        if (luaL_loadbuffer(L, source.text, source.length, source.name) != 0) return lua_error(L);
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_call(L, 2, 0);
    }
    lua_settop(L, 1);
    return 1;
}

// Makes the module's opener an entry of the table that luaopen_package() makes package.preload.
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

void set_address(lua_State *L, const char *name, void *address) {
    lua_pushlightuserdata(L, address);
    lua_setfield(L, -2, name);
}

void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

const StateExtra state_extras[] = {preload_module, nullptr};

}  // namespace jemalloc_lua

int luaopen_jemalloc(lua_State *L) {
    const lua_CFunction copy = jemalloc_lua::serving_copy();
    return copy == luaopen_jemalloc ? jemalloc_lua::open(L) : copy(L);
}
