// LuaJIT keeps its tools in Lua; the command only finds them and hands them their arguments.

#include "jit_commands.h"

#include <cstring>
#include <string_view>

#include "call.h"

namespace jemalloc_lua::command {
namespace {

void push_loaded(lua_State *L, const char *module) {
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, module);
    lua_remove(L, -2);
}

int no_module() {
    message("unknown luaJIT command or jit.* modules not installed");
    return 1;
}

// Replaces the module's name on top of the stack by its start function.
int load_start(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "jit.");
    lua_pushvalue(L, -3);
    lua_concat(L, 2);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        const char *text = lua_tostring(L, -1);
        const bool missing = text != nullptr && std::string_view(text).starts_with("module ");
        return missing ? no_module() : report(L, 1);
    }
    lua_getfield(L, -1, "start");
    if (lua_isnil(L, -1)) return no_module();
    lua_replace(L, -3);
    lua_pop(L, 1);
    return 0;
}

// Calls the function on top with "a,,b" as "a", nil, "b"; with nothing for an empty or null text.
int call_with_list(lua_State *L, const char *list) {
    int narg = 0;
    if (list != nullptr && *list != '\0') {
        for (std::string_view rest = list;; ++narg) {
            const std::size_t comma = rest.find(',');
            const std::string_view word = rest.substr(0, comma);
            luaL_checkstack(L, 2, "too many arguments");
            if (word.empty()) {
                lua_pushnil(L);
            } else {
                lua_pushlstring(L, word.data(), word.size());
            }
            if (comma == std::string_view::npos) break;
            rest.remove_prefix(comma + 1);
        }
        ++narg;
    }
    return report(L, lua_pcall(L, narg, 0, 0));
}

}  // namespace

int run_jit_command(lua_State *L, const char *text) {
    const char *equals = std::strchr(text, '=');
    lua_pushlstring(L, text, equals != nullptr ? static_cast<std::size_t>(equals - text) : std::strlen(text));
    push_loaded(L, "jit");
    lua_pushvalue(L, -2);
    lua_gettable(L, -2);
    lua_remove(L, -2);
    if (lua_isfunction(L, -1)) {
        lua_remove(L, -2);
    } else {
        lua_pop(L, 1);
        if (load_start(L) != 0) return 1;
    }
    return call_with_list(L, equals != nullptr ? equals + 1 : nullptr);
}

int run_optimisation(lua_State *L, const char *text) {
    push_loaded(L, "jit.opt");
    lua_getfield(L, -1, "start");
    lua_remove(L, -2);
    return call_with_list(L, text);
}

int run_bytecode(lua_State *L, char **words) {
    lua_pushliteral(L, "bcsave");
    if (load_start(L) != 0) return 1;
    int narg = 0;
    if (words[0][2] != '\0') {  // -bl is bcsave's -l
        lua_pushfstring(L, "-%s", words[0] + 2);
        ++narg;
    }
    for (char **word = words + 1; *word != nullptr; ++word, ++narg) {
        luaL_checkstack(L, 2, "too many arguments");
        lua_pushstring(L, *word);
    }
    report(L, lua_pcall(L, narg, 0, 0));
    return 0;
}

}  // namespace jemalloc_lua::command
