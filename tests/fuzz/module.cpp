// The argument checks of the Lua module: a sequence of calls of its functions and methods with arguments of
// all kinds, made by module.lua from the fuzzer's bytes. Nothing may harm the process. libFuzzer sees which
// lines of the module's Lua source run, by counters of our own that a line hook counts up.

#include <fuzzer/FuzzedDataProvider.h>
#include <jemalloc_lua.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lua.hpp>
#include <set>
#include <string>

#include "module.h"

namespace {

constexpr std::size_t counter_count = 4096;
[[gnu::section("__libfuzzer_extra_counters")]] unsigned char line_counters[counter_count];
std::set<std::size_t> lines_seen;

FuzzedDataProvider *input;

void count_line(lua_State *L, lua_Debug *where) {
    lua_getinfo(L, "S", where);
    if (std::strncmp(where->source, "@jemalloc/", 10) != 0) return;
    const std::size_t line =
        (std::hash<std::string_view>{}(where->source) + static_cast<std::size_t>(where->currentline)) %
        counter_count;
    ++line_counters[line];
    lines_seen.insert(line);
}

// choose(n): a whole number from 0 to n - 1; 0 where there is no choice, and at the end of the input.
int choose(lua_State *L) {
    const int last = static_cast<int>(lua_tointeger(L, 1)) - 1;
    lua_pushinteger(L, last <= 0 ? 0 : input->ConsumeIntegralInRange<int>(0, last));
    return 1;
}

// text(): a string of up to 16 bytes.
int text(lua_State *L) {
    const std::string bytes = input->ConsumeRandomLengthString(16);
    lua_pushlstring(L, bytes.data(), bytes.size());
    return 1;
}

int more(lua_State *L) {
    lua_pushboolean(L, input->remaining_bytes() > 0);
    return 1;
}

[[noreturn]] void die(lua_State *L, const char *what) {
    std::fprintf(stderr, "module: %s: %s\n", what, lua_tostring(L, -1));
    std::abort();
}

int prepare(lua_State *L) {
    luaL_openlibs(L);
    if (luaL_loadfile(L, JEMALLOC_LUA_FUZZ_SCRIPT) != 0) lua_error(L);
    for (const lua_CFunction each : {choose, text, more}) lua_pushcfunction(L, each);
#ifdef JEMALLOC_LUA_SEEDED_FAULT
    lua_pushboolean(L, 1);
#else
    lua_pushboolean(L, 0);
#endif
    lua_call(L, 4, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "run");
    return 0;
}

// The system grants a buffer of a terabyte, and to go through its elements would never end.
constexpr std::size_t limit = std::size_t{256} << 20;

// A state with the script loaded. Loading takes a hundred times as long as a run, so a state serves for some
// inputs; what one leaves behind is collected at its end.
lua_State *a_state(int front, bool compile) {
    constexpr int inputs = 50;
    static struct {
        lua_State *L;
        int used;
    } states[3][2];
    auto &[L, used] = states[front][compile];
    if (L != nullptr && used++ < inputs) return L;
    jemalloc_lua_close(L);
    used = 0;
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    options.front = front;
    options.limit = limit;
    L = jemalloc_lua_newstate_opts(&options);
    if (L == nullptr) std::abort();
    if (lua_cpcall(L, prepare, nullptr) != 0) die(L, "no script");
    if (compile) {
        luaL_dostring(L, "jit.opt.start('hotloop=1', 'hotexit=1')");
    } else {
        luaL_dostring(L, "jit.off()");
        lua_sethook(L, count_line, LUA_MASKLINE, 0);
    }
    return L;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static const bool told = [] {
        std::atexit([] { std::fprintf(stderr, "stat::module_lines: %zu\n", lines_seen.size()); });
        return true;
    }();
    (void)told;
    FuzzedDataProvider in(data, size);
    input = &in;
    lua_State *L = a_state(in.ConsumeIntegralInRange(0, 2), in.ConsumeIntegralInRange(0, 3) == 0);
    // The script catches what the module raises; want of memory, once a call has set a limit, ends it.
    lua_getfield(L, LUA_REGISTRYINDEX, "run");
    if (lua_pcall(L, 0, 0, 0) != 0 && std::strstr(lua_tostring(L, -1), "not enough memory") == nullptr) {
        die(L, "the script failed");
    }
    lua_settop(L, 0);
    jemalloc_lua_set_limit(L, limit);
    return 0;
}
