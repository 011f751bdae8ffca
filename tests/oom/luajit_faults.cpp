// What LuaJIT itself can't bear of an allocator that refuses a request: shown on lua_newstate() and an
// allocator of ten lines, with nothing of this library. Prints which of the faults the LuaJIT at hand has.
// The trials of this folder spare just these.

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "lua.hpp"

namespace {

struct Plain {
    long passed;          // requests to let pass; then one is refused
    bool lasting;         // and all after
    std::size_t size;     // of the new blocks that count; 0: all requests do
    std::ptrdiff_t live;  // bytes by what Lua says of sizes
};

void *plain_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *plain = static_cast<Plain *>(ud);
    if (ptr == nullptr) old_size = 0;
    const bool asks =
        new_size > old_size && (plain->size == 0 || (ptr == nullptr && new_size == plain->size));
    if (asks && (plain->passed == 0 || (plain->passed < 0 && plain->lasting)))
        return --plain->passed, nullptr;
    if (asks) --plain->passed;
    void *given = new_size == 0 ? (std::free(ptr), nullptr) : std::realloc(ptr, new_size);
    if (given != nullptr || new_size == 0) {
        plain->live += static_cast<std::ptrdiff_t>(new_size) - static_cast<std::ptrdiff_t>(old_size);
    }
    return given;
}

constexpr long never = -1000000000;
constexpr int fine = 0;
constexpr int short_size = 3;  // a block was freed as smaller than it was
constexpr int other_error = 4;

// Runs the n-th refusal in a child; its exit status, or 128 and the signal.
template <class F>
int in_child(F &&f) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(f());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int run_program(lua_State *L) {
    const auto *program = static_cast<const char *>(lua_touserdata(L, 1));
    if (luaL_loadstring(L, program) != 0) return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

int open_libraries(lua_State *L) {
    luaL_openlibs(L);
    return 0;
}

// A state, what prepares it, the refusal, the program, the end.
int trial(const char *prepare, const char *program, long nth, bool lasting, std::size_t size, bool *refused) {
    Plain plain{never, false, size, 0};
    lua_State *L = lua_newstate(plain_alloc, &plain);
    int result = fine;
    if (lua_cpcall(L, open_libraries, nullptr) != 0) return other_error;
    if (lua_cpcall(L, run_program, const_cast<char *>(prepare)) != 0) return other_error;
    plain.passed = nth - 1;
    plain.lasting = lasting;
    if (lua_cpcall(L, run_program, const_cast<char *>(program)) != 0) {
        const char *message = lua_tostring(L, -1);
        if (message == nullptr || std::strstr(message, "not enough memory") == nullptr) result = other_error;
    }
    *refused = plain.passed < 0;
    plain.passed = never;
    plain.lasting = false;
    lua_close(L);
    return result == fine && plain.live != 0 ? short_size : result;
}

// How many of the refusals 1, 2, 3 ... of a program end in `what` (crashes: any signal).
struct Tally {
    int tried = 0;
    int crashes = 0;
    int shorts = 0;
    int others = 0;
};

Tally refuse_each(const char *prepare, const char *program, bool lasting, std::size_t size = 0) {
    Tally tally;
    for (long nth = 1; nth < 2000; ++nth) {
        const int status = in_child([&] {
            bool refused = false;
            const int result = trial(prepare, program, nth, lasting, size, &refused);
            return refused ? result : 99;
        });
        if (status == 99) break;
        ++tally.tried;
        tally.crashes += status >= 128 ? 1 : 0;
        tally.shorts += status == short_size ? 1 : 0;
        tally.others += status == other_error ? 1 : 0;
    }
    return tally;
}

void tell(const char *fault, const Tally &tally) {
    std::printf("%-58s %5d refusals: %4d crashes, %4d wrong sizes, %4d wrong errors\n", fault, tally.tried,
                tally.crashes, tally.shorts, tally.others);
}

}  // namespace

int main() {
    Tally creation;
    for (long nth = 1;; ++nth) {
        const int status = in_child([&] {
            Plain plain{nth - 1, false, 0, 0};
            lua_State *L = lua_newstate(plain_alloc, &plain);
            if (L == nullptr) return plain.live == 0 ? fine : short_size;
            plain.passed = never;
            lua_close(L);
            return 99;
        });
        if (status == 99) break;
        ++creation.tried;
        creation.crashes += status >= 128 ? 1 : 0;
        creation.shorts += status == short_size ? 1 : 0;
    }
    tell("lua_newstate()", creation);
    tell("require 'ffi'", refuse_each("", "require('ffi')", false));
    tell("a closure with upvalues",
         refuse_each("", "local a, b = 1, 2 return function() return a, b end", false));
    tell("string.dump()", refuse_each("f = loadstring(('print(1) '):rep(100))", "string.dump(f)", false));
    const char *compiled = "loadfile('" JEMALLOC_LUA_WORKLOADS "/string_build.lua')('2')";
    tell("compiled code",
         refuse_each("print = type jit.opt.start('hotloop=2', 'hotexit=1')", compiled, false));
    tell("the same, interpreted", refuse_each("print = type jit.off()", compiled, false));
    // A trace's constants outgrow their memory, here at 4 KiB, as a call of a built-in function is recorded:
    // the handler has removed the function's arguments, and it is called without.
    Tally recorded;
    for (int hotloop = 1; hotloop <= 60; ++hotloop) {
        const std::string start =
            "print = type jit.opt.start('hotloop=" + std::to_string(hotloop) + "', 'hotexit=1')";
        const char *tokenise = "loadfile('" JEMALLOC_LUA_WORKLOADS "/tokeniser.lua')('1')";
        const Tally tally = refuse_each(start.c_str(), tokenise, true, 4096);
        recorded.tried += tally.tried;
        recorded.crashes += tally.crashes;
        recorded.others += tally.others;
    }
    tell("the compiler", recorded);
    return creation.tried > 7 ? 0 : 1;
}
