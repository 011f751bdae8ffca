// In a process that the system confines, which CMakeLists.txt does from outside, or which confines itself
// here after its heaps are there: memory goes back nonetheless, limits hold in pages, and the statistics say
// how.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>

#include "../alloc/support.h"

namespace {

using test::M;
using test::State;

// Of each front, and of both kinds of arena.
class Confined : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(, Confined,
                         testing::Values("", "harden:true", "arena:own", "front:direct", "front:checked"),
                         [](const auto &info) {
                             std::string name = info.param[0] == '\0' ? "default" : info.param;
                             std::replace(name.begin(), name.end(), ':', '_');
                             return name;
                         });

void collect(const State &state) {
    lua_gc(state.get(), LUA_GCCOLLECT, 0);
    lua_gc(state.get(), LUA_GCCOLLECT, 0);
}

std::size_t grown_since(std::size_t start) {
    const std::size_t now = test::resident_bytes();
    return now - std::min(now, start);
}

constexpr const char *peak = "local t = {} for i = 1, 3e5 do t[i] = {i, 'x' .. i} end";
constexpr const char *other_peak = "local t = {} for i = 1, 3e4 do t[i] = ('y'):rep(900) .. i end";
constexpr const char *growth =
    "local t = {} for i = 1, 2e6 do t[i] = i end for i = 1, 2e6, 999 do assert(t[i] == i) end";

// Peaks, each of which goes. "" or what is wrong.
std::string live(const std::string &conf) {
    const std::size_t start = test::resident_bytes();
    {
        const State one = test::state(conf);
        for (const char *program : {peak, other_peak, growth}) {
            const std::string message = test::run(one.get(), program);
            if (!message.empty()) return message;
            collect(one);
            jemalloc_lua_trim(one.get());
            // The records of front:checked stay.
            const std::size_t stays = grown_since(start);
            if (stays > (conf == "front:checked" ? 30 * M : 14 * M)) {
                return program + (": " + std::to_string(stays / M)) + " MiB stay";
            }
        }
    }
    const std::size_t left = grown_since(start);
    return left > 14 * M ? std::to_string(left / M) + " MiB after close" : "";
}

TEST_P(Confined, GivesBackWhatAPeakTook) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer's shadow stays";
    EXPECT_EQ("", live(GetParam()));
}

TEST_P(Confined, HoldsALimitInPages) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer's shadow and the table of blocks do not count";
    const std::size_t start = test::resident_bytes();
    const State one = test::state(std::string(GetParam()) + (GetParam()[0] == '\0' ? "" : ",") + "limit:32M");
    for (const char *program : {"local t = {} for i = 1, 1e9 do t[i] = {i} end",
                                "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(i % 9000) .. i end"}) {
        EXPECT_NE("", test::run(one.get(), program));
        EXPECT_LT(grown_since(start), 42 * M) << program;
        collect(one);
    }
}

// CMakeLists.txt tells what the statistics should say.
TEST(ConfinedStatistics, SayHowMemoryGoesBack) {
    const State one = test::state("");
    EXPECT_EQ("", test::run(one.get(), peak));
    collect(one);
    jemalloc_lua_trim(one.get());
    const jemalloc_lua_stats stats = test::stats(one.get());
    EXPECT_GT(stats.purged, 10 * M);
    const char *expected = std::getenv("JEMALLOC_LUA_TEST_WAY_BACK");
    if (expected != nullptr) {
        EXPECT_EQ(static_cast<unsigned>(std::atoi(expected)), stats.way_back);
    }
}

// ---- Confined later, in a child

std::string in_child(const std::function<std::string()> &body) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        const std::string problem = body();
        _exit(write(ends[1], problem.data(), problem.size()) == static_cast<ssize_t>(problem.size()) ? 0 : 1);
    }
    close(ends[1]);
    char text[512];
    std::string problem;
    for (ssize_t got = 0; (got = read(ends[0], text, sizeof text)) > 0;) {
        problem.append(text, static_cast<std::size_t>(got));
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? problem + " signal " + std::to_string(WTERMSIG(status)) : problem;
}

bool deny(unsigned call, unsigned other = ~0u) {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{5, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

constexpr const char *cannot = "can't be confined here";

// `confine` runs when a heap has had a peak already.
std::string live_confined_late(const std::string &conf, const std::function<bool()> &confine,
                               unsigned way_back) {
    return in_child([&]() -> std::string {
        std::size_t start = 0;
        {
            const State one = test::state(conf);
            std::string message = test::run(one.get(), peak);
            if (!message.empty()) return message;
            if (!confine()) return cannot;
            collect(one);
            jemalloc_lua_trim(one.get());
            start = test::resident_bytes();  // with all that locking it has brought in
            message = live(conf);
            if (!message.empty()) return message;
            if (conf.find("front") == std::string::npos && test::stats(one.get()).way_back != way_back) {
                return "says " + std::to_string(test::stats(one.get()).way_back);
            }
        }
        const std::size_t left = grown_since(start);
        return left > 14 * M ? std::to_string(left / M) + " MiB after the last close" : "";
    });
}

TEST_P(Confined, LaterByAFilterOfSystemCalls) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer calls madvise() itself";
    const std::string problem = live_confined_late(
        GetParam(), [] { return deny(SYS_madvise, SYS_mremap); }, JEMALLOC_LUA_WAY_BACK_REMAP);
    if (problem == cannot) GTEST_SKIP() << "no seccomp here";
    EXPECT_EQ("", problem);
}

TEST_P(Confined, LaterByLocks) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer's shadow can't be locked";
    const std::string problem = live_confined_late(
        GetParam(), [] { return mlockall(MCL_CURRENT | MCL_FUTURE) == 0; }, JEMALLOC_LUA_WAY_BACK_REMAP);
    if (problem == cannot) GTEST_SKIP() << "memory may not be locked";
    EXPECT_EQ("", problem);
}

// ---- Bounded address space, against LuaJIT's own allocator

std::size_t status(const std::string &field) {
    std::ifstream file("/proc/self/status");
    for (std::string word; file >> word;) {
        std::size_t kib = 0;
        if (word == field && file >> kib) return kib << 10;
    }
    return 0;
}

// What a program leaves in `n` before it is refused memory, in a process that may map `room` bytes more. The
// state must work on.
std::string reached(bool ours, int resource, std::size_t room, const char *program) {
    return in_child([&]() -> std::string {
        const rlim_t bytes = status(resource == RLIMIT_AS ? "VmSize:" : "VmData:") + room;
        const rlimit bound{bytes, bytes};
        if (setrlimit(static_cast<__rlimit_resource_t>(resource), &bound) != 0) return "no bound";
        lua_State *L = ours ? jemalloc_lua_newstate() : luaL_newstate();
        if (L == nullptr) return "no state";
        luaL_openlibs(L);
        if (test::run(L, program).find("not enough memory") == std::string::npos) return "no refusal";
        lua_gc(L, LUA_GCCOLLECT, 0);
        lua_gc(L, LUA_GCCOLLECT, 0);
        const std::string after = test::run(L, "local t = {} for i = 1, 1e5 do t[i] = {i} end");
        if (!after.empty()) return "afterwards: " + after;
        lua_getglobal(L, "n");
        const std::string at = std::to_string(lua_tointeger(L, -1));
        ours ? jemalloc_lua_close(L) : lua_close(L);
        return at;
    });
}

TEST(BoundedSpace, HoldsAsMuchAsOnLuaJITsOwnAllocator) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer's shadow is address space";
    for (const char *program : {
             "n = 0 local t = {} for i = 1, 1e9 do t[i] = i n = i end",
             "n = 0 local s = 'x' for i = 1, 60 do s = s .. s n = #s end",
             "n = 0 local t = {} for i = 1, 1e9 do t['k' .. i] = i n = i end",
             "n = 0 local t = {} for i = 1, 1e9 do t[i] = {i, i} n = i end",
             "n = 0 local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(100000) .. i n = i end",
         }) {
        for (const int resource : {RLIMIT_AS, RLIMIT_DATA}) {
            const std::string built_in = reached(false, resource, 256 * M, program);
            const std::string ours = reached(true, resource, 256 * M, program);
            EXPECT_GE(std::atof(ours.c_str()), 0.88 * std::atof(built_in.c_str()))
                << program << ": " << ours << " of " << built_in;
            EXPECT_GT(std::atof(ours.c_str()), 0) << program << ": " << ours;
        }
    }
}

}  // namespace
