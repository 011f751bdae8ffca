// jemalloc-luajit: a command like luajit whose state is a jemalloc heap. This file is the order of things:
// command line, state, libraries, LUA_INIT, options, script, interactive mode.

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lua.hpp>
#include <string>

#include "at_exit.h"
#include "call.h"
#include "command_line.h"
#include "interactive.h"
#include "jemalloc_lua.h"
#include "jit_commands.h"
#include "new_state.h"

namespace jemalloc_lua::command {
namespace {

constexpr int exit_misuse = 2;

void print_version() {
    std::puts(LUAJIT_VERSION " -- " LUAJIT_COPYRIGHT ". " LUAJIT_URL);
}

// `arg`: the script at 0, its arguments from 1, the command and its options below.
void set_arg_table(lua_State *L, const CommandLine &line) {
    lua_createtable(L, line.argc - line.script, line.script);
    for (int i = 0; i < line.argc; ++i) {
        lua_pushstring(L, line.argv[i]);
        lua_rawseti(L, -2, i - line.script);
    }
    lua_setglobal(L, "arg");
}

int run_lua_init(lua_State *L) {
    const char *init = std::getenv("LUA_INIT");
    if (init == nullptr) return 0;
    return init[0] == '@' ? run_file(L, init + 1) : run_text(L, init, "=LUA_INIT");
}

int run_actions(lua_State *L, const CommandLine &line) {
    for (const Action &action : line.actions) {
        int status = 0;
        switch (action.kind) {
            case Action::Kind::chunk:
                status = run_text(L, action.text, "=(command line)");
                break;
            case Action::Kind::library:
                lua_getglobal(L, "require");
                lua_pushstring(L, action.text);
                status = report(L, call(L, 1, Results::dropped));
                break;
            case Action::Kind::jit_command:
                status = run_jit_command(L, action.text);
                break;
            case Action::Kind::optimisation:
                status = run_optimisation(L, action.text);
                break;
        }
        if (status != 0) return status;
    }
    return 0;
}

// The script with what is in `arg` by now: LUA_INIT or -e may have changed it.
int run_script(lua_State *L, char **words) {
    const bool from_stdin = std::strcmp(words[0], "-") == 0 && std::strcmp(words[-1], "--") != 0;
    int status = luaL_loadfile(L, from_stdin ? nullptr : words[0]);
    if (status == 0) {
        int narg = 0;
        lua_getglobal(L, "arg");
        if (lua_istable(L, -1)) {
            const int table = lua_gettop(L);
            for (;; ++narg) {
                luaL_checkstack(L, 3, "too many arguments to script");
                lua_rawgeti(L, table, narg + 1);
                if (lua_isnil(L, -1)) break;
            }
            lua_pop(L, 1);
            lua_remove(L, table);
        } else {
            lua_pop(L, 1);
        }
        status = call(L, narg, Results::kept);
    }
    return report(L, status);
}

struct Job {
    const CommandLine *line;
    int status;
    bool ready;  // the libraries are open
};

// All that runs in the state, in protected mode. Returns a status.
int run(lua_State *L, Job *job) {
    const CommandLine &line = *job->line;
    prepare_exit(L, line);
    if (line.ignore_environment) {
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");  // the libraries look at it
    }
    lua_gc(L, LUA_GCSTOP, 0);  // the libraries are all here to stay
    luaL_openlibs(L);
    lua_gc(L, LUA_GCRESTART, -1);
    set_arg_table(L, line);
    job->ready = true;

    int status = line.ignore_environment ? 0 : run_lua_init(L);
    if (status != 0) return status;
    if (line.version) print_version();
    status = run_actions(L, line);
    if (status != 0) return status;
    if (line.bytecode != 0) return run_bytecode(L, line.argv + line.bytecode);
    const bool script = line.script < line.argc;
    if (script) {
        status = run_script(L, line.argv + line.script);
        if (status != 0) return status;
    }
    if (line.interactive) {
        print_jit_status(L);
        interact(L);
    } else if (!script && !line.executes && !line.version) {
        if (isatty(STDIN_FILENO) != 0) {
            print_version();
            print_jit_status(L);
            interact(L);
        } else {
            run_file(L, nullptr);  // as luajit does, whose exit code does not tell
        }
    }
    return 0;
}

int run_protected(lua_State *L) {
    auto *job = static_cast<Job *>(lua_touserdata(L, 1));
    job->status = run(L, job);
    return 0;
}

// False and errno where it could not be written.
bool print_help() {
    const int length = jemalloc_lua_options_help(nullptr, 0);
    std::string text(static_cast<std::size_t>(length) + 1, '\0');
    jemalloc_lua_options_help(text.data(), text.size());
    std::fputs("usage: jemalloc-luajit --jemalloc key:value,key:value ...; sizes take K, M and G\n\n",
               stdout);
    std::fputs(text.c_str(), stdout);
    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

int main(int argc, char **argv) {
    program_name = argc > 0 && argv[0][0] != '\0' ? argv[0] : "jemalloc-luajit";
    CommandLine line;
    std::string why;
    switch (read_command_line(argc, argv, &line, &why)) {
        case Verdict::good:
            break;
        case Verdict::usage:
            print_usage(program_name);
            return EXIT_FAILURE;
        case Verdict::misuse:
            message(why.c_str());
            return exit_misuse;
    }
    if (line.help) {
        if (print_help()) return EXIT_SUCCESS;
        message((std::string("--jemalloc-help: cannot write: ") + std::strerror(errno)).c_str());
        return EXIT_FAILURE;
    }
    jemalloc_lua_options options;
    if (!heap_options(line, &options, &why)) {
        message(why.c_str());
        return exit_misuse;
    }
    lua_State *L = new_state(line, options, &why);
    if (L == nullptr) {
        message(why.c_str());
        return EXIT_FAILURE;
    }
    if (line.record != nullptr) {
        if (const int error = start_recording(L, line.record)) {
            message((std::string("--jemalloc-record: ") + line.record + ": " + std::strerror(error)).c_str());
            jemalloc_lua_close(L);
            return exit_misuse;
        }
    }
    Job job{&line, 0, false};
    const int status = lua_cpcall(L, run_protected, &job);
    if (status == LUA_ERRMEM && !job.ready && limits(line, options)) {
        message(limit_too_small(options).c_str());
    } else {
        report(L, status);
    }
    const bool recorded = stop_recording();
    jemalloc_lua_close(L);
    return status != 0 || job.status != 0 || !recorded ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace jemalloc_lua::command

int main(int argc, char **argv) {
    return jemalloc_lua::command::main(argc, argv);
}
