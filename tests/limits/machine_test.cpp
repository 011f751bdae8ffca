// Limits of the machine: address space, writable memory, mappings, and kernels that lack what the library
// would use. A state that meets one works on or gets "not enough memory", and never anything else; it can be
// closed; and when the limit is gone, all is as before. Each test is a process of its own: such limits are
// the process's.

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "../alloc/secret.h"
#include "../alloc/support.h"
#include "kernel.h"

namespace {

using test::K;
using test::M;
using test::State;

// ---- A process for each test

// The test's own malloc and stack are not what is to run out.
[[gnu::noinline]] void set_aside() {
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_MMAP_MAX, 0);
    void *volatile heap = std::malloc(4 * M);
    std::free(heap);
    volatile char stack[512 * K];
    for (std::size_t i = 0; i < sizeof stack; i += K) stack[i] = 0;
}

// What `body` returns in a child process: "" where nothing was wrong. Nothing is thrown out of the child.
std::string in_child(const std::function<std::string()> &body) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        set_aside();
        try {
            const std::string problem = body();
            const ssize_t written = write(ends[1], problem.data(), problem.size());
            _exit(written == static_cast<ssize_t>(problem.size()) ? 0 : 1);
        } catch (...) {
            _exit(1);
        }
    }
    close(ends[1]);
    std::string problem;
    char text[512];
    for (ssize_t got = 0; (got = read(ends[0], text, sizeof text)) > 0;) {
        problem.append(text, static_cast<std::size_t>(got));
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) problem += " signal " + std::to_string(WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) problem += " no report";
    return problem;
}

// ---- States

constexpr const char *not_enough_memory = "not enough memory";

constexpr const char *runaways[] = {
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local t = {} for i = 1, 1e9 do t[i] = {i} end",
    "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(300000) .. i end",
    "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(i) end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(print) end",
};

// Grows a table whose blocks move as they grow, and looks at every value of it.
constexpr const char *grow_and_look = R"(
    local t = {}
    for i = 1, 1500000 do t[i] = i end
    for i = 1, 1500000 do if t[i] ~= i then error('wrong contents at ' .. i) end end
    local s = ('0123456789'):rep(1000)
    while #s < 8e6 do s = s .. s end
    for at = 1, #s, 4321 do if s:byte(at) ~= 48 + (at - 1) % 10 then error('wrong contents') end end)";

bool ran_or_refused(const std::string &message) {
    return message.empty() || message.find(not_enough_memory) != std::string::npos;
}

// As test::run(), with the call protected as a whole: lua_load() may collect, and a collection that shrinks a
// table asks for memory.
std::string run(lua_State *L, const std::string &program) {
    const auto load_and_call = [](lua_State *S) {
        const auto *text = static_cast<const std::string *>(lua_touserdata(S, 1));
        if (luaL_loadbuffer(S, text->data(), text->size(), "=test") != 0) return lua_error(S);
        lua_call(S, 0, 0);
        return 0;
    };
    if (lua_cpcall(L, load_and_call, const_cast<std::string *>(&program)) == 0) return "";
    const std::string message = lua_tostring(L, -1);
    lua_pop(L, 1);
    return message;
}

// LuaJIT's compiler has its own trouble with refusals (tests/oom/luajit_faults.cpp), so it is off. The first
// error makes the unwinder allocate what it keeps.
State ready(const std::string &conf) {
    State one = test::state(conf);
    if (one != nullptr && run(one.get(), "jit.off() assert(not pcall(error))").empty() &&
        run(one.get(), "function collect() collectgarbage() collectgarbage() end").empty()) {
        return one;
    }
    return {};
}

// lua_gc() may raise an error, as a collection that shrinks a table asks for memory; and a new chunk would as
// well.
void collect(lua_State *L) {
    lua_getglobal(L, "collect");
    if (lua_pcall(L, 0, 0, 0) != 0) lua_pop(L, 1);
}

class Machine : public testing::TestWithParam<const char *> {
  protected:
    static std::string conf(const std::string &more = "") {
        const std::string front = GetParam();
        return (front == "harden" ? "front:slab,harden:true" : "front:" + front) + (more.empty() ? "" : ",") +
               more;
    }

    // What states do between `limit` and `lift`.
    static std::string live_under(const std::function<bool()> &limit, const std::function<bool()> &lift,
                                  const std::string &more = "") {
        State bystander = ready(conf());
        const std::string stay = "kept = {} for i = 1, 20000 do kept[i] = {i, 'value ' .. i} end";
        const std::string look =
            "for i = 1, 20000 do assert(kept[i][1] == i and kept[i][2] == 'value ' .. i) end";
        State one = ready(conf(more));
        if (!run(bystander.get(), stay).empty()) return "no bystander";

        if (!limit()) return "no limit";
        for (const char *program : runaways) {
            const std::string message = run(one.get(), program);
            if (message.find(not_enough_memory) == std::string::npos) return program + (": " + message);
            collect(one.get());
            jemalloc_lua_trim(one.get());
            const std::string next = run(one.get(), "local t = {} for i = 1, 1000 do t[i] = tostring(i) end");
            if (!ran_or_refused(next)) return "afterwards: " + next;
        }
        const std::string grown = run(one.get(), grow_and_look);
        if (!ran_or_refused(grown)) return grown;
        const std::string states = make_states();
        if (!states.empty()) return states;
        lua_close(one.release());

        if (!lift()) return "the limit stays";
        one = ready(conf());
        for (lua_State *L : {one.get(), bystander.get()}) {
            const std::string again = run(L, grow_and_look);
            if (!again.empty()) return "without the limit: " + again;
        }
        const std::string seen = run(bystander.get(), look);
        return seen.empty() ? "" : "the bystander: " + seen;
    }

    // States until there are no more, or enough.
    static std::string make_states() {
        std::vector<State> states;
        states.reserve(2000);
        while (states.size() < states.capacity()) {
            errno = 0;
            State one = test::bare_state(conf());
            if (one == nullptr) return errno == ENOMEM ? "" : "no state, errno " + std::to_string(errno);
            if (!test::open_libraries(one.get())) {
                if (std::strcmp(lua_tostring(one.get(), -1), not_enough_memory) != 0) return "no libraries";
            }
            states.push_back(std::move(one));
        }
        return "";
    }

    static std::string under_rlimit(int resource, const char *field) {
        rlimit before{};
        getrlimit(static_cast<__rlimit_resource_t>(resource), &before);
        const auto set = [&](rlim_t bytes) {
            const rlimit now{bytes, before.rlim_max};
            return setrlimit(static_cast<__rlimit_resource_t>(resource), &now) == 0;
        };
        return live_under([&] { return set(status(field) * K + 24 * M); },
                          [&] { return set(before.rlim_cur); });
    }

    // A figure of /proc/self/status, in KiB.
    static std::size_t status(const std::string &field) {
        std::ifstream file("/proc/self/status");
        for (std::string word; file >> word;) {
            std::size_t kib = 0;
            if (word == field && file >> kib) return kib;
        }
        return 0;
    }
};
INSTANTIATE_TEST_SUITE_P(, Machine, testing::Values("slab", "harden", "direct", "checked"),
                         [](const auto &info) { return std::string(info.param); });

// ---- Limits of the process

TEST_P(Machine, MayHaveLittleAddressSpace) {
    EXPECT_EQ("", in_child([] { return under_rlimit(RLIMIT_AS, "VmSize:"); }));
}

TEST_P(Machine, MayHaveLittleWritableMemory) {
    EXPECT_EQ("", in_child([] { return under_rlimit(RLIMIT_DATA, "VmData:"); }));
}

TEST_P(Machine, MayOvercommitNothing) {
    EXPECT_EQ("", in_child([] {
                  const auto strict = [] {
                      kernel::lacks.writable = 24 * M;
                      return true;
                  };
                  const auto generous = [] {
                      kernel::lacks.writable = SIZE_MAX;
                      return kernel::refused > 0;
                  };
                  return live_under(strict, generous);
              }));
}

// ---- Mappings: vm.max_map_count of them, less a few

class Mappings {
  public:
    // All that there are, but `left`.
    bool use_up(std::size_t left) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        size_ = (most() + 2) * page;
        area_ = static_cast<char *>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (area_ == MAP_FAILED) return false;
        // Every other page differs from its neighbours: each makes two mappings more.
        std::size_t at = page;
        while (at + page < size_ && mprotect(area_ + at, page, PROT_READ) == 0) at += 2 * page;
        // The last one may have been a single one; then some are made whole again.
        for (std::size_t i = 0; i < left; i += 2) {
            at -= 2 * page;
            if (mprotect(area_ + at, page, PROT_NONE) != 0) return false;
        }
        return true;
    }

    bool give_back() const { return munmap(area_, size_) == 0; }

    static std::size_t most() {
        std::size_t count = 0;
        std::ifstream("/proc/sys/vm/max_map_count") >> count;
        return count;
    }

  private:
    char *area_ = nullptr;
    std::size_t size_ = 0;
};

TEST_P(Machine, MayHaveNoMappingsLeft) {
    if (Mappings::most() > std::size_t{1} << 18)
        GTEST_SKIP() << "vm.max_map_count is too high to use them up";
    for (const std::size_t left : {0, 40}) {
        EXPECT_EQ("", in_child([&] {
                      Mappings mappings;
                      // What is mapped already can be had, so a limit of the state's ends programs.
                      return live_under([&] { return mappings.use_up(left); },
                                        [&] { return mappings.give_back(); }, "limit:24M");
                  }))
            << left;
    }
}

// ---- Kernels that lack something

TEST_P(Machine, MayLackMremapsDontunmap) {
    EXPECT_EQ("", in_child([] {
                  kernel::lacks.dontunmap = true;
                  return run(ready(conf()).get(), grow_and_look);
              }));
}

TEST_P(Machine, MayLackMremap) {
    EXPECT_EQ("", in_child([] {
                  kernel::lacks.mremap = true;
                  return run(ready(conf()).get(), grow_and_look);
              }));
}

TEST_P(Machine, MayLackHugePages) {
    for (const char *thp : {"thp:always", "thp:never"}) {
        EXPECT_EQ("", in_child([&] {
                      kernel::lacks.huge_pages = true;
                      if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) return std::string("no prctl()");
                      return run(ready(conf(thp)).get(), grow_and_look);
                  }));
    }
}

// What could not be moved was copied, and the copy is not left behind.
TEST_P(Machine, MayLackMremapAndScrubsNonetheless) {
    const char *grow =
        "t = {} local n = require('ffi').new('double[3]') require('ffi').copy(n, secret(), 24) "
        "for i = 0, 299999 do t[i + 1] = n[i % 3] end";
    for (bool kernel::Lacks::*what : {&kernel::Lacks::dontunmap, &kernel::Lacks::mremap}) {
        EXPECT_EQ("", in_child([&] {
                      kernel::lacks.*what = true;
                      State one = ready(conf("scrub:true"));
                      const std::string message = run(one.get(), test::make_secret + std::string(" ") + grow);
                      if (!message.empty()) return message;
                      if (test::copies() < 100000) return std::string("nothing is found");
                      lua_close(one.release());
                      test::wipe_stack();
                      const int left = test::copies();
                      return left == 0 ? std::string() : std::to_string(left) + " copies";
                  }));
    }
}

// Each block that grows is one mapping, or it could not be moved as a whole and would be copied.
TEST(MachineItself, MovesTheSecondArrayAsWellAsTheFirst) {
    const State one = ready("front:slab");
    kernel::refused = 0;
    const char *twice =
        "for _ = 1, 2 do local t = {} for i = 1, 5e6 do t[i] = i end t = nil collectgarbage() end";
    EXPECT_EQ("", run(one.get(), twice));
    EXPECT_EQ(0u, kernel::refused);
}

// The wrapped calls are those of the library, or the tests above show nothing.
TEST(MachineItself, IsAskedByTheLibrary) {
    const auto refused = [](bool kernel::Lacks::*what, const char *conf) {
        kernel::refused = 0;
        kernel::lacks.*what = true;
        run(ready(conf).get(), grow_and_look);
        kernel::lacks.*what = false;
        return kernel::refused;
    };
    EXPECT_GT(refused(&kernel::Lacks::dontunmap, "front:slab"), 0u);
    EXPECT_GT(refused(&kernel::Lacks::mremap, "front:slab"), 0u);
    EXPECT_GT(refused(&kernel::Lacks::huge_pages, "front:slab,thp:always"), 0u);
}

}  // namespace
