// The interactive mode: a chunk is read line by line until it compiles or fails for another reason than being
// unfinished, then run, and its values are printed.

#include "interactive.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "call.h"

#if JEMALLOC_LUA_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#endif

namespace jemalloc_lua::command {
namespace {

constexpr int end_of_input = -1;

enum class Line { first, further };

// A line without its end, to be freed with free(); null at the end of input.
char *read_line(const char *prompt) {
#if JEMALLOC_LUA_READLINE
    if (isatty(STDIN_FILENO) != 0) {
        char *line = readline(prompt);
        if (line != nullptr && *line != '\0') add_history(line);
        return line;
    }
#endif
    std::fputs(prompt, stdout);
    std::fflush(stdout);
    char *line = nullptr;
    std::size_t capacity = 0;
    const ssize_t length = getline(&line, &capacity, stdin);
    if (length < 0) {
        std::free(line);
        return nullptr;
    }
    if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
    return line;
}

// Pushes the next line; false at the end of input.
bool push_line(lua_State *L, Line which) {
    lua_getglobal(L, which == Line::first ? "_PROMPT" : "_PROMPT2");
    const char *prompt = lua_tostring(L, -1);
    if (prompt == nullptr) prompt = which == Line::first ? "> " : ">> ";
    char *line = read_line(prompt);
    lua_pop(L, 1);
    if (line == nullptr) return false;
    if (which == Line::first && line[0] == '=') {
        lua_pushfstring(L, "return %s", line + 1);
    } else {
        lua_pushstring(L, line);
    }
    std::free(line);
    return true;
}

// Whether a chunk failed to compile only because it ended too early; pops the message if so.
bool incomplete(lua_State *L, int status) {
    if (status != LUA_ERRSYNTAX) return false;
    std::size_t length = 0;
    const char *text = lua_tolstring(L, -1, &length);
    if (!std::string_view(text, length).ends_with("'<eof>'")) return false;
    lua_pop(L, 1);
    return true;
}

// Leaves the compiled chunk or an error message alone on the stack.
int load_chunk(lua_State *L) {
    lua_settop(L, 0);
    if (!push_line(L, Line::first)) return end_of_input;
    for (;;) {
        std::size_t length = 0;
        const char *text = lua_tolstring(L, 1, &length);
        const int status = luaL_loadbuffer(L, text, length, "=stdin");
        if (!incomplete(L, status)) {
            lua_remove(L, 1);
            return status;
        }
        lua_pushliteral(L, "\n");
        if (!push_line(L, Line::further)) return end_of_input;
        lua_concat(L, 3);
    }
}

void print_values(lua_State *L) {
    lua_getglobal(L, "print");
    lua_insert(L, 1);
    if (lua_pcall(L, lua_gettop(L) - 1, 0, 0) != 0) {
        message(lua_pushfstring(L, "error calling 'print' (%s)", lua_tostring(L, -1)));
    }
}

}  // namespace

void print_jit_status(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "jit");
    lua_getfield(L, -1, "status");
    int at = lua_gettop(L);
    lua_call(L, 0, LUA_MULTRET);
    std::fputs(lua_toboolean(L, at) != 0 ? "JIT: ON" : "JIT: OFF", stdout);
    while (const char *flag = lua_tostring(L, ++at)) std::printf(" %s", flag);
    std::putchar('\n');
    lua_settop(L, 0);
}

void interact(lua_State *L) {
    const char *name = std::exchange(program_name, nullptr);
    int status;
    while ((status = load_chunk(L)) != end_of_input) {
        if (status == 0) status = call(L, 0, Results::kept);
        report(L, status);
        if (status == 0 && lua_gettop(L) > 0) print_values(L);
    }
    lua_settop(L, 0);
    std::fputs("\n", stdout);
    std::fflush(stdout);
    program_name = name;
}

}  // namespace jemalloc_lua::command
