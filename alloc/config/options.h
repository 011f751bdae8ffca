// The options of a heap as the rest of the library sees them: complete, in range, and with a reader of
// JEMALLOC_LUA_CONF. What they mean stands in jemalloc_lua.h.
#pragma once

#include <cstddef>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

using Options = jemalloc_lua_options;

inline constexpr std::size_t min_slab = std::size_t{16} << 10;
inline constexpr std::size_t max_slab = std::size_t{1} << 20;
inline constexpr std::size_t max_small = 1024;
// No closure is larger. After a refusal LuaJIT frees one that it could not finish as a smaller one, and what
// is small by what it says must lie in a slab.
inline constexpr std::size_t min_small = 528;

// The built-in defaults with JEMALLOC_LUA_CONF over them. The variable is read once in a process; each bad
// pair in it is reported on stderr then.
const Options &environment_options();

// By enum jemalloc_lua_front; ends with null.
extern const char *const front_names[];

inline constexpr int address_guard_auto = -1;

// What JEMALLOC_LUA_CONF says of the process as a whole; only the preload shim acts on the first three.
struct Settings {
    int verbose = 0;                         // say on stderr why a host keeps its own allocator
    int stats_print = 0;                     // print statistics of all states at exit
    int stats_signal = 0;                    // the signal upon which they are printed; 0: none
    int address_guard = address_guard_auto;  // whether arenas get the hooks of system/mappings.h
    char stats_file[2048] = {};  // the file that shows them live, with %p for the process id; empty: none
};

const Settings &environment_settings();

// What a value of JEMALLOC_LUA_CONF says, null included; each bad pair is reported and left out.
struct Environment {
    Options options;
    Settings settings;
};

Environment read_environment(const char *conf, void (*report)(const char *problem));

// Copies the caller's options, which may come from an older or a newer header, and checks every value.
// Returns 0 or EINVAL, with the reason in err.
int adopt_options(const Options *given, Options *out, char *err, std::size_t errlen);

// What the soft limit comes to, in bytes; 0: none.
constexpr std::size_t soft_limit_of(std::size_t soft_limit, std::size_t limit) {
    return soft_limit != 0 ? soft_limit : limit / 5 * 4;
}

}  // namespace jemalloc_lua
