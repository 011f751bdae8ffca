// A state ends in lua_close(), which os.exit(code, true) calls as well, or with the process, as by os.exit().
// A userdata with a finalizer hears of the first, atexit() of the second. The userdata is the state's first,
// so its finalizer is the last: other finalizers' work is in the figures.

#include "stats_at_exit.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "jemalloc_lua.h"

namespace jemalloc_lua::command {
namespace {

lua_State *reported = nullptr;  // null before, and again when the report is made
bool as_json = false;

void print_stats() {
    if (reported == nullptr) return;
    jemalloc_lua_stats stats{};
    stats.size = sizeof stats;
    if (jemalloc_lua_get_stats(reported, &stats) == 0) {
        const int length = jemalloc_lua_stats_format(&stats, as_json ? 1 : 0, nullptr, 0);
        std::string text(static_cast<std::size_t>(length) + 1, '\0');
        jemalloc_lua_stats_format(&stats, as_json ? 1 : 0, text.data(), text.size());
        std::fflush(stdout);
        std::fprintf(stderr, as_json ? "%s\n" : "%s", text.c_str());
    }
    reported = nullptr;
}

int finalize(lua_State *) {
    print_stats();
    return 0;
}

}  // namespace

void print_stats_at_exit(lua_State *L, Stats format) {
    if (format == Stats::none) return;
    as_json = format == Stats::json;
    lua_newuserdata(L, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, finalize);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, "jemalloc_lua.stats_at_exit");
    reported = L;
    std::atexit(print_stats);
}

}  // namespace jemalloc_lua::command
