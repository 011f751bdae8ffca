// Makes the state on the library's heap, or on one of the two allocators that it is compared with.

#include "new_state.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#if defined(__GLIBC__)
// glibc's own, also in a process whose malloc() is another library's.
extern "C" void *__libc_realloc(void *ptr, std::size_t size);
extern "C" void __libc_free(void *ptr);
#endif

namespace jemalloc_lua::command {
namespace {

void *system_alloc(void *, void *ptr, std::size_t, std::size_t nsize) {
#if defined(__GLIBC__)
    if (nsize != 0) return __libc_realloc(ptr, nsize);
    __libc_free(ptr);
#else
    if (nsize != 0) return std::realloc(ptr, nsize);
    std::free(ptr);
#endif
    return nullptr;
}

int panic(lua_State *L) {
    const char *message = lua_tostring(L, -1);
    std::fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
                 message != nullptr ? message : "?");
    return 0;
}

lua_State *new_system_state() {
    lua_State *L = lua_newstate(system_alloc, nullptr);
    if (L != nullptr) lua_atpanic(L, panic);
    return L;
}

// The end of the first pair: a comma, but for those in a value in quotes.
std::size_t pair_end(std::string_view conf) {
    std::size_t from = conf.find_first_of(":,");
    if (from == std::string_view::npos || conf[from] == ',') return from;
    if (++from < conf.size() && (conf[from] == '"' || conf[from] == '\''))
        from = conf.find(conf[from], from + 1);
    return conf.find(',', from);
}

// What of JEMALLOC_LUA_CONF is a heap's option. The library itself reports what is wrong in it.
void read_environment(std::string_view conf, jemalloc_lua_options *options) {
    if (jemalloc_lua_options_parse(options, conf.data(), nullptr, 0) == 0) return;
    for (;;) {
        const std::size_t comma = pair_end(conf);
        jemalloc_lua_options_parse(options, std::string(conf.substr(0, comma)).c_str(), nullptr, 0);
        if (comma == std::string_view::npos) return;
        conf.remove_prefix(comma + 1);
    }
}

// As options are written.
std::string size_text(std::size_t bytes) {
    return bytes % 1024 == 0 ? std::to_string(bytes / 1024) + "K" : std::to_string(bytes);
}

std::string creation_error(const jemalloc_lua_options &options, bool limited, int error) {
    switch (error) {
        case ENOMEM:
            if (limited) return "cannot create state: " + limit_too_small(options);
            return "cannot create state: not enough memory";
        case ENOTSUP:
            return "cannot create state: this LuaJIT takes no allocator but its own (built without GC64)";
        case EINVAL:
            if (options.arena >= 0) {
                return "cannot create state: arena:" + std::to_string(options.arena) +
                       ": there is no such arena; it takes auto, own, shared, thread or the index of one";
            }
            [[fallthrough]];
        default:
            return std::string("cannot create state: ") + std::strerror(error);
    }
}

// A state with these options. The library reads JEMALLOC_LUA_CONF when it makes its first: under -E it must
// find none, and what the script starts must find what there was.
lua_State *new_state_on_heap(const CommandLine &line, const jemalloc_lua_options &options) {
    if (!line.ignore_environment) {
        return line.conf.empty() ? jemalloc_lua_newstate() : jemalloc_lua_newstate_opts(&options);
    }
    const char *conf = std::getenv("JEMALLOC_LUA_CONF");
    const std::string kept = conf != nullptr ? conf : "";
    unsetenv("JEMALLOC_LUA_CONF");
    lua_State *L = jemalloc_lua_newstate_opts(&options);
    const int error = errno;
    if (conf != nullptr) setenv("JEMALLOC_LUA_CONF", kept.c_str(), 1);
    errno = error;
    return L;
}

}  // namespace

bool heap_options(const CommandLine &line, jemalloc_lua_options *options, std::string *why) {
    jemalloc_lua_options_init(options);
    const char *environment = line.ignore_environment ? nullptr : std::getenv("JEMALLOC_LUA_CONF");
    if (environment != nullptr) read_environment(environment, options);
    char text[512];
    for (const char *conf : line.conf) {
        if (jemalloc_lua_options_parse(options, conf, text, sizeof text) != 0) {
            *why = std::string("--jemalloc: ") + text;
            return false;
        }
    }
    return true;
}

bool limits(const CommandLine &line, const jemalloc_lua_options &options) {
    return line.allocator == Allocator::heap && options.limit != 0;
}

std::string limit_too_small(const jemalloc_lua_options &options) {
    return "not enough memory: limit:" + size_text(options.limit) +
           " is too small for a state and its libraries; 128K is enough with default options";
}

lua_State *new_state(const CommandLine &line, const jemalloc_lua_options &options, std::string *why) {
    lua_State *L = nullptr;
    errno = ENOMEM;
    switch (line.allocator) {
        case Allocator::heap:
            L = new_state_on_heap(line, options);
            break;
        case Allocator::built_in:
            L = luaL_newstate();
            break;
        case Allocator::system:
            L = new_system_state();
            break;
    }
    if (L == nullptr) *why = creation_error(options, limits(line, options), errno);
    return L;
}

}  // namespace jemalloc_lua::command
