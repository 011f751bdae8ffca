// binding/*: the Lua module `jemalloc` in compiled Lua, beside what it is held against: the same calls from C
// through a function pointer, and LuaJIT's own FFI arrays. One iteration is one pair or one element.

#include <cstdio>
#include <cstring>
#include <string>

#include "state/inside.h"
#include "suites.h"

extern "C" {
#include <lauxlib.h>
#include <lualib.h>
}

namespace jemalloc_lua::bench {
namespace {

constexpr benchmark::IterationCount batch = 100000;  // iterations in one call into Lua

template <class F>
F *function(const char *name) {
    const je::Function *at = je::functions;
    while (std::strcmp(at->name, name) != 0) ++at;
    return reinterpret_cast<F *>(at->address);
}

void pair_from_c(benchmark::State &state, int size) {
    auto *mallocx = function<void *(std::size_t, int)>("mallocx");
    auto *dallocx = function<void(void *, int)>("dallocx");
    benchmark::DoNotOptimize(mallocx);
    benchmark::DoNotOptimize(dallocx);
    while (state.KeepRunningBatch(batch)) {
        for (benchmark::IterationCount i = 0; i < batch; ++i) {
            void *block = mallocx(static_cast<std::size_t>(size), 0);
            benchmark::DoNotOptimize(block);
            dallocx(block, 0);
        }
    }
}

// `program` returns a function of n and the argument that loops n times.
void in_lua(benchmark::State &state, const std::string &program, int argument) {
    lua_State *L = jemalloc_lua_newstate();
    if (L == nullptr) {
        state.SkipWithError("no state");
        return;
    }
    luaL_openlibs(L);
    const std::string whole = "local J, ffi = require('jemalloc'), require('ffi')\n" + program;
    bool fine = luaL_loadbuffer(L, whole.data(), whole.size(), "=binding") == 0 && lua_pcall(L, 0, 1, 0) == 0;
    const auto call = [&](benchmark::IterationCount n) {
        lua_pushvalue(L, 1);
        lua_pushnumber(L, static_cast<double>(n));
        lua_pushinteger(L, argument);
        fine = lua_pcall(L, 2, 0, 0) == 0;
    };
    if (fine) call(batch);  // compiled and warm
    while (fine && state.KeepRunningBatch(batch)) call(batch);
    if (!fine) state.SkipWithError(lua_tostring(L, -1));
    jemalloc_lua_close(L);
}

constexpr const char *pair_program =
    "return function(n, size) for _ = 1, n do local p = J.mallocx(size); J.dallocx(p) end end";

// So that the block is not optimized away, it is kept until the next one.
constexpr const char *ffi_new_program =
    "local kept; local chars = ffi.typeof('char[?]')\n"
    "return function(n, size) for _ = 1, n do kept = chars(size) end; return kept end";

std::string read_program(const char *array) {
    return std::string("local a = ") + array +
           "\nfor i = 0, 9999 do a[i] = i end\n"
           "return function(n) local sum = 0; for _ = 1, n / 10000 do for i = 0, 9999 do sum = sum + a[i] "
           "end end "
           "return sum end";
}

std::string write_program(const char *array) {
    return std::string("local a = ") + array +
           "\nreturn function(n) for _ = 1, n / 10000 do for i = 0, 9999 do a[i] = i end end end";
}

}  // namespace

void register_binding() {
    for (const int size : {64, 1024, 8192}) {
        const std::string name = "binding/pair_" + std::to_string(size);
        benchmark::RegisterBenchmark((name + "/c").c_str(), pair_from_c, size);
        benchmark::RegisterBenchmark((name + "/lua").c_str(), in_lua, std::string(pair_program), size);
        benchmark::RegisterBenchmark((name + "/ffi_new").c_str(), in_lua, std::string(ffi_new_program), size);
    }
    const struct {
        const char *name;
        const char *array;
    } arrays[] = {
        {"ffi_new", "ffi.new('double[10000]')"},
        {"buffer", "J.buffer('double', 10000)"},
        {"slice", "J.buffer('double', 20000):slice(100)"},
    };
    for (const auto &array : arrays) {
        const std::string name = array.name;
        benchmark::RegisterBenchmark(("binding/read/" + name).c_str(), in_lua, read_program(array.array), 0);
        benchmark::RegisterBenchmark(("binding/write/" + name).c_str(), in_lua, write_program(array.array),
                                     0);
    }
}

}  // namespace jemalloc_lua::bench
