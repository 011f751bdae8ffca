// One trial: a program in a state of its own with a refusal in its way, and what came of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inject.h"
#include "jemalloc_lua.h"

namespace oom {

struct Program {
    std::string name;
    std::string file;
    std::string argument;     // its size
    std::uint64_t every = 1;  // of its requests that are refused: for those that make very many
};

// Those of programs/, and the benchmark's workloads in small sizes.
std::vector<Program> programs();

struct Setting {
    const char *name;
    const char *conf;  // as jemalloc_lua_options_parse() reads it; "": no heap of ours, but malloc()
};

// The last is the one without a heap of ours: what goes wrong there is LuaJIT's own.
extern const std::vector<Setting> settings;

struct Trial {
    Trial(const Program &program, const Setting &setting, bool with_jit);

    struct Outcome {
        std::uint64_t refused = 0;
        std::string wrong;             // an error that is not Lua's own for want of memory; "" if none
        std::ptrdiff_t uncounted = 0;  // bytes from jemalloc that the state's footprint does not tell of
        std::ptrdiff_t left = 0;       // bytes that the closed state has left behind
    };
    Outcome run(Refusal refusal) const;

    // The same program without a heap of ours: what goes wrong there is LuaJIT's own.
    Trial on_malloc() const;

    std::string source;
    std::string name;
    std::string argument;
    std::string conf;
    bool jit;
    int hotloop = 2;  // rounds of a loop before it is compiled
    bool plain;       // on no heap of ours
    bool uses_ffi;
    jemalloc_lua_options options;
};

// Bytes that jemalloc has handed out and not got back.
std::size_t jemalloc_bytes();

}  // namespace oom
