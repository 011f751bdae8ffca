// A state ends in lua_close(), which os.exit(code, true) calls as well, or with the process, as by os.exit().
// A userdata with a finalizer hears of the first, atexit() of the second. The userdata is the state's first,
// so its finalizer is the last: other finalizers' work is in the figures.

#include "at_exit.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "call.h"
#include "jemalloc_lua.h"
#include "record.h"

namespace jemalloc_lua::command {
namespace {

// Each is null before, and again when it is done.
lua_State *recorded = nullptr;
const char *recording = nullptr;  // its file
lua_State *reported = nullptr;

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

void end_state() {
    stop_recording();
    print_stats();
}

int finalize(lua_State *) {
    end_state();
    return 0;
}

}  // namespace

int start_recording(lua_State *L, const char *path) {
    const int error = jemalloc_lua_record_start(L, path);
    if (error == 0) {
        recorded = L;
        recording = path;
    }
    return error;
}

bool stop_recording() {
    if (recorded == nullptr) return true;
    const int error = jemalloc_lua_record_stop(recorded);
    recorded = nullptr;
    if (error != 0)
        message((std::string("--jemalloc-record: ") + recording + ": " + std::strerror(error)).c_str());
    return error == 0;
}

void prepare_exit(lua_State *L, const CommandLine &line) {
    if (line.stats == Stats::none && recorded == nullptr) return;
    as_json = line.stats == Stats::json;
    lua_newuserdata(L, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, finalize);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, "jemalloc_lua.at_exit");
    if (line.stats != Stats::none) reported = L;
    std::atexit(end_state);
}

}  // namespace jemalloc_lua::command
