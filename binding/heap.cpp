// The heap of the state that runs the module (lua/heap.lua): statistics, limit, trim.

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include "memory.h"

namespace jemalloc_lua {
namespace {

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

}  // namespace

void add_heap(lua_State *L, int native) {
    set_function(L, native, "heap_stats", heap_stats);
    set_function(L, native, "heap_set_limit", heap_set_limit);
    set_function(L, native, "heap_trim", heap_trim);
}

}  // namespace jemalloc_lua
