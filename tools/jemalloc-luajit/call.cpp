// The one way in which the command calls Lua: pcall under a traceback, with Ctrl-C turned into an error by a
// hook, since a signal handler may touch nothing of the state but that.

#include "call.h"

#include <csignal>
#include <cstdio>
#include <cstring>

namespace jemalloc_lua::command {

const char *program_name = nullptr;

namespace {

lua_State *interruptible = nullptr;  // what Ctrl-C stops

void stop(lua_State *L, lua_Debug *) {
    lua_sethook(L, nullptr, 0, 0);
    luaL_where(L, 0);  // not luaL_error(): a hook has no frame of its own
    lua_pushfstring(L, "%sinterrupted!", lua_tostring(L, -1));
    lua_error(L);
}

void on_interrupt(int signal) {
    std::signal(signal, SIG_DFL);  // a second Ctrl-C ends the process, should the first not get through
    lua_sethook(interruptible, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

// Makes the error object a string with a traceback where it is one, or has __tostring.
int add_traceback(lua_State *L) {
    if (lua_isstring(L, 1) == 0) {
        if (lua_isnoneornil(L, 1) || luaL_callmeta(L, 1, "__tostring") == 0 || lua_isstring(L, -1) == 0) {
            return 1;
        }
        lua_remove(L, 1);
    }
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

int run_loaded(lua_State *L, int status) {
    if (status == 0) status = call(L, 0, Results::dropped);
    return report(L, status);
}

}  // namespace

void message(const char *text) {
    if (program_name != nullptr) std::fprintf(stderr, "%s: ", program_name);
    std::fprintf(stderr, "%s\n", text);
    std::fflush(stderr);
}

int report(lua_State *L, int status) {
    if (status != 0 && !lua_isnil(L, -1)) {
        const char *text = lua_tostring(L, -1);
        message(text != nullptr ? text : "(error object is not a string)");
        lua_pop(L, 1);
    }
    return status;
}

int call(lua_State *L, int narg, Results results) {
    const int base = lua_gettop(L) - narg;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    interruptible = L;
    std::signal(SIGINT, on_interrupt);
    const int status = lua_pcall(L, narg, results == Results::kept ? LUA_MULTRET : 0, base);
    std::signal(SIGINT, SIG_DFL);
    lua_remove(L, base);
    if (status != 0) lua_gc(L, LUA_GCCOLLECT, 0);  // what the failed chunk held
    return status;
}

int run_file(lua_State *L, const char *name) {
    return run_loaded(L, luaL_loadfile(L, name));
}

int run_text(lua_State *L, const char *text, const char *name) {
    return run_loaded(L, luaL_loadbuffer(L, text, std::strlen(text), name));
}

}  // namespace jemalloc_lua::command
