// What a command line asks for: luajit's options, and ours that begin with --jemalloc.
//
// luajit's grammar has no long options and takes everything from the script's name on as the script's own.
// Ours stand before that name in any order with luajit's, as "--name VALUE" or "--name=VALUE".
#pragma once

#include <string>
#include <vector>

namespace jemalloc_lua::command {

// One thing to do before the script, in the order given.
struct Action {
    enum class Kind { chunk, library, jit_command, optimisation };
    Kind kind;
    const char *text;
};

enum class Allocator {
    heap,      // this library's
    built_in,  // LuaJIT's own, as by luaL_newstate()
    system     // the C library's realloc() and free()
};

enum class Stats { none, table, json };

struct CommandLine {
    char **argv = nullptr;
    int argc = 0;

    // luajit's
    std::vector<Action> actions;
    bool interactive = false;         // -i
    bool version = false;             // -v, and -i which implies it
    bool ignore_environment = false;  // -E
    bool executes = false;            // -e or -b was given, so there is no need for a script
    int bytecode = 0;                 // index in argv of -b, whose arguments go on to the end; 0: none
    int script = 0;                   // index in argv of the script; argc: none

    // Ours
    std::vector<const char *> conf;  // --jemalloc
    Allocator allocator = Allocator::heap;
    Stats stats = Stats::none;
    const char *record = nullptr;  // --jemalloc-record: the file
    bool help = false;             // --jemalloc-help
};

enum class Verdict {
    good,
    usage,  // not in luajit's grammar: print_usage(), exit 1 as luajit does
    misuse  // an option of ours is wrong: one line says how, exit 2
};

// Reads argv into line; the reason for `misuse` into why.
Verdict read_command_line(int argc, char **argv, CommandLine *line, std::string *why);

// The options on stderr: luajit's in its words, then ours.
void print_usage(const char *program);

}  // namespace jemalloc_lua::command
