// scrub:true: what a state held can't be found in the process's memory once it is freed or closed.
//
// The search reads all writable memory of the process through /proc/self/mem. The secret is never in memory
// of the test itself: it is kept, compared and handed to Lua in disguise.

#include <fcntl.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "support.h"

namespace {

using test::K;
using test::M;
using test::State;

constexpr int length = 24;

// The i-th letter of the secret.
unsigned char secret(int i) {
    return static_cast<unsigned char>('A' + (i * 37 + 11) % 53);
}

// Lua that makes it: the same sum.
constexpr const char *make_secret = R"(
    function secret()
        local t = {}
        for i = 0, 23 do t[#t + 1] = string.char(65 + (i * 37 + 11) % 53) end
        return table.concat(t)
    end)";

// How often the secret stands in writable memory of this process.
int copies() {
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    EXPECT_GE(memory, 0);
    // Never freed to the process's malloc nor reused: what is read here must not be found by the next search.
    static std::vector<unsigned char> buffer(4 * M);
    const auto buffer_start = reinterpret_cast<std::uintptr_t>(buffer.data());
    int found = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t at = 0;
        std::uintptr_t end = 0;
        char mode[5] = "";
        if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s", &at, &end, mode) != 3) continue;
        if (mode[0] != 'r' || mode[1] != 'w') continue;
        // AddressSanitizer's shadow is terabytes of nothing.
        if (end - at > std::size_t{4} << 30) continue;
        while (at < end) {
            if (at >= buffer_start && at < buffer_start + buffer.size()) {
                at = buffer_start + buffer.size();
                continue;
            }
            std::size_t size = std::min<std::size_t>(end - at, buffer.size());
            if (at < buffer_start && at + size > buffer_start) size = buffer_start - at;
            const ssize_t got = pread(memory, buffer.data(), size, static_cast<off_t>(at));
            if (got <= 0) break;
            for (ssize_t i = 0; i + length <= got; ++i) {
                int same = 0;
                while (same < length && buffer[static_cast<std::size_t>(i + same)] == secret(same)) ++same;
                if (same == length) ++found;
            }
            at += static_cast<std::size_t>(got);
        }
    }
    close(memory);
    std::fill(buffer.begin(), buffer.end(), 0);
    return found;
}

// Clears what calls of Lua may have left on the C stack.
[[gnu::noinline]] void wipe_stack() {
    volatile unsigned char area[64 * K];
    for (std::size_t i = 0; i < sizeof area; ++i) area[i] = 0;
}

class Scrub : public test::FrontAndArena {
  protected:
    void SetUp() override {
        if (test::thread_sanitized) GTEST_SKIP() << "ThreadSanitizer's shadow is too large to search";
    }

    // Blocks of every kind that hold the secret.
    static constexpr const char *hide = R"(
        local s = secret()
        kept = {s, s:rep(3), s:rep(50), s:rep(500), s:rep(50000), s:lower() .. s}
        for i = 1, 200 do kept[#kept + 1] = i .. s end
        local buffer = {} for i = 1, 1000 do buffer[i] = s end
        kept[#kept + 1] = table.concat(buffer, ' '))";
};
ON_EVERY_FRONT_AND_ARENA(Scrub);

TEST_P(Scrub, LeavesNothingOfAClosedState) {
    for (void (*close)(lua_State *) : {static_cast<void (*)(lua_State *)>(lua_close), jemalloc_lua_close}) {
        State one = state("scrub:true");
        EXPECT_EQ("", test::run(one.get(), make_secret));
        EXPECT_EQ("", test::run(one.get(), hide));
        EXPECT_GT(copies(), 1000) << "the search does not find what is there";
        close(one.release());
        wipe_stack();
        EXPECT_EQ(0, copies());
    }
}

TEST_P(Scrub, LeavesNothingOfWhatWasFreed) {
    const State one = state("scrub:true");
    EXPECT_EQ("", test::run(one.get(), make_secret));
    EXPECT_EQ("", test::run(one.get(), hide));
    EXPECT_GT(copies(), 1000);
    // Lua's own scratch buffer and stack slots may hold the last string.
    EXPECT_EQ(
        "", test::run(one.get(), "kept = nil local t = {} for i = 1, 1e5 do t[1] = ('x'):rep(200) .. i end"));
    test::collect(one.get());
    wipe_stack();
    EXPECT_LE(copies(), 1);
}

// With the others, memory is overwritten or unmapped anyway.
class NoScrub : public test::FrontAndArena {};
INSTANTIATE_TEST_SUITE_P(, NoScrub,
                         testing::Combine(testing::Values<std::string>("slab", "direct"),
                                          testing::Values<std::string>("auto", "shared", "thread")),
                         test::name_of);

TEST_P(NoScrub, LeavesSecretsBehind) {
    State one = state("dirty_decay_ms:-1");
    EXPECT_EQ("", test::run(one.get(), make_secret));
    EXPECT_EQ("", test::run(one.get(), "kept = {} for i = 1, 200 do kept[i] = i .. secret() end"));
    one.reset();
    EXPECT_GT(copies(), 0);
}

}  // namespace
