// The host functions are closures over a light userdata, so that a state carries nothing else of ours.

#include "lua_host.h"

namespace jemalloc_lua::bench {
namespace {

int keep_print(lua_State *L) {
    auto *output = static_cast<std::string *>(lua_touserdata(L, lua_upvalueindex(1)));
    const int count = lua_gettop(L);
    lua_getglobal(L, "tostring");
    for (int i = 1; i <= count; ++i) {
        lua_pushvalue(L, -1);
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        if (i > 1) *output += '\t';
        *output += lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    *output += '\n';
    return 0;
}

int run_in_new_state(lua_State *L) {
    const auto *allocator = static_cast<const Allocator *>(lua_touserdata(L, lua_upvalueindex(1)));
    std::size_t length = 0;
    const char *source = luaL_checklstring(L, 1, &length);
    const lua_Number argument = luaL_checknumber(L, 2);
    lua_Number result = 0;
    std::string error;
    {
        const std::unique_ptr<State> state = allocator->make_state();
        if (state == nullptr) {
            error = "no memory for a state";
        } else {
            luaL_openlibs(state->L);
            lua_State *M = state->L;
            bool ok = luaL_loadbuffer(M, source, length, "=request") == 0;
            if (ok) {
                lua_pushnumber(M, argument);
                ok = lua_pcall(M, 1, 1, 0) == 0;
            }
            if (ok) {
                result = lua_tonumber(M, -1);
            } else {
                error = lua_tostring(M, -1);
            }
        }
    }
    if (!error.empty()) {
        lua_pushlstring(L, error.data(), error.size());
        std::string().swap(error);  // lua_error() does not return, nor run destructors
        return lua_error(L);
    }
    lua_pushnumber(L, result);
    return 1;
}

int traceback(lua_State *L) {
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

}  // namespace

void prepare(lua_State *L, const Allocator &allocator) {
    luaL_openlibs(L);
    lua_pushlightuserdata(L, const_cast<Allocator *>(&allocator));
    lua_pushcclosure(L, run_in_new_state, 1);
    lua_setglobal(L, "run_in_new_state");
}

bool run_file(lua_State *L, const std::string &path, const std::vector<std::string> &arguments,
              std::string &result) {
    result.clear();
    lua_createtable(L, static_cast<int>(arguments.size()), 1);
    lua_pushlstring(L, path.data(), path.size());
    lua_rawseti(L, -2, 0);
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        lua_pushlstring(L, arguments[i].data(), arguments[i].size());
        lua_rawseti(L, -2, static_cast<int>(i + 1));
    }
    lua_setglobal(L, "arg");
    lua_pushlightuserdata(L, &result);
    lua_pushcclosure(L, keep_print, 1);
    lua_setglobal(L, "print");
    const int base = lua_gettop(L);
    lua_pushcfunction(L, traceback);
    bool ok = luaL_loadfile(L, path.c_str()) == 0;
    if (ok) {
        for (const std::string &argument : arguments) lua_pushlstring(L, argument.data(), argument.size());
        ok = lua_pcall(L, static_cast<int>(arguments.size()), 0, base + 1) == 0;
    }
    if (!ok) {
        const char *message = lua_tostring(L, -1);
        result = message != nullptr ? message : "(an error that is no string)";
    }
    while (!result.empty() && result.back() == '\n') result.pop_back();
    lua_settop(L, base);
    return ok;
}

}  // namespace jemalloc_lua::bench
