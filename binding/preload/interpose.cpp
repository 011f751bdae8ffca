// luaL_newstate() and lua_newstate() as a host finds them when the shim is preloaded.
//
// luaL_newstate() makes a state of ours. So does lua_newstate() with LuaJIT's internal allocator, because the
// luaL_newstate() inside a LuaJIT shared library calls the shim's lua_newstate() that way. lua_newstate()
// with another allocator is the host's own business. If no state of ours can be made, and not for lack of
// memory, the host gets the state that it would have got without the shim.

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "host.h"
#include "report.h"
#include "state/inside.h"

using namespace jemalloc_lua;

namespace {

std::atomic<bool> reached{false};

// A program with LuaJIT linked in never calls these functions, so only its exit can tell. Only with
// verbose:true: a shell under the shim must not parse the options and complain about them. Only in the
// process that loaded the shim: children that run no other program do not repeat it.
pid_t program;
[[gnu::constructor]] void program_begins() {
    program = getpid();
}

[[gnu::destructor]] void tell_if_not_reached() {
    const char *conf = std::getenv("JEMALLOC_LUA_CONF");
    if (reached || getpid() != program || conf == nullptr || std::strstr(conf, "verbose:true") == nullptr)
        return;
    char text[160];
    std::snprintf(text, sizeof text,
                  "%s asked for no state of LuaJIT: it has none, or one linked into itself",
                  program_invocation_short_name);
    tell(text);
}

// Makes a state of ours in *L, which is null when out of memory. False: the host's Lua is to make the state.
bool make_state(const Host &host, lua_State **L) {
    if (!serve(host)) return false;
    prepare_report();
    *L = jemalloc_lua_newstate();
    if (*L != nullptr || errno == ENOMEM) return true;
    if (errno == EINVAL) {
        static std::atomic_flag told;
        if (!told.test_and_set()) {
            std::fputs(
                "jemalloc_lua: JEMALLOC_LUA_CONF: there is no arena of this index: states keep "
                "LuaJIT's allocator\n",
                stderr);
        }
    } else {
        tell("this LuaJIT takes no allocator: its states keep their own");
    }
    return false;
}

}  // namespace

extern "C" {

JEMALLOC_LUA_API lua_State *luaL_newstate(void) {
    reached = true;
    const Host &host = find_host(__builtin_return_address(0));
    lua_State *L = nullptr;
    if (host.luaL_newstate == nullptr) {
        tell("luaL_newstate() was called, but this process has no Lua that can be seen");
        return nullptr;
    }
    return make_state(host, &L) ? L : host.luaL_newstate();
}

// jemalloc_lua_newstate() calls this too, with an allocator that is not the internal one.
JEMALLOC_LUA_API lua_State *lua_newstate(lua_Alloc f, void *ud) {
    reached = true;
    const Host &host = find_host(__builtin_return_address(0));
    lua_State *L = nullptr;
    if (host.lua_newstate == nullptr) {
        tell("lua_newstate() was called, but this process has no Lua that can be seen");
        return nullptr;
    }
    if (!luajit::is_internal_allocator(f) || !make_state(host, &L)) return host.lua_newstate(f, ud);
    if (L != nullptr) lua_atpanic(L, nullptr);  // luaL_newstate() sets one, lua_newstate() does not
    return L;
}
}
