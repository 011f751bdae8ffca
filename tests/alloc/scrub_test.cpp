// scrub:true: what a state held can't be found in the process's memory once it is freed or closed.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "secret.h"
#include "support.h"

namespace {

using test::copies;
using test::M;
using test::make_secret;
using test::State;
using test::wipe_stack;

class Scrub : public test::FrontAndArena {
  protected:
    void SetUp() override {
        if (test::thread_sanitized) GTEST_SKIP() << "ThreadSanitizer's shadow is too large to search";
    }

    // Blocks of every kind that hold the secret; as three numbers, where they hold no bytes. What grows
    // leaves copies behind as it is moved.
    static constexpr const char *hide = R"(
        local ffi = require 'ffi'
        local s = secret()
        kept = {s, s:rep(3), s:rep(50), s:rep(500), s:rep(50000), s:lower() .. s}
        for i = 1, 200 do kept[#kept + 1] = i .. s end
        local buffer = {} for i = 1, 1000 do buffer[i] = s end
        kept[#kept + 1] = table.concat(buffer, ' ')

        local numbers = ffi.new('double[3]')
        ffi.copy(numbers, s, 24)
        kept[#kept + 1] = numbers
        local array = {}
        for i = 0, 119999 do array[i + 1] = numbers[i % 3] end
        kept[#kept + 1] = array

        local function deep(a, b, c, depth)
            if depth == 0 then coroutine.yield() end
            return deep(a, b, c, depth - 1) + 1
        end
        for i = 1, 20 do
            local stack = coroutine.create(deep)
            coroutine.resume(stack, numbers[0], numbers[1], numbers[2], 50 * i)
            kept[#kept + 1] = stack
        end

        local found, string_buffer = pcall(require, 'string.buffer')
        if found then
            local growing = string_buffer.new()
            for i = 1, 20000 do growing:put(s) end
            kept[#kept + 1] = growing
        end)";
};
ON_EVERY_FRONT_AND_ARENA(Scrub);

TEST_P(Scrub, LeavesNothingOfAClosedState) {
    for (void (*close)(lua_State *) : {static_cast<void (*)(lua_State *)>(lua_close), jemalloc_lua_close}) {
        State one = state("scrub:true");
        EXPECT_EQ("", test::run(one.get(), make_secret));
        EXPECT_EQ("", test::run(one.get(), hide));
        EXPECT_GT(copies(), 50000) << "the search does not find what is there";
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

// Shrinks blocks where the system has no more memory: to a size below that of another block there may be no
// room for the smaller one.
[[noreturn]] void shrink_without_memory(const std::string &conf) {
    const jemalloc_lua_options options = test::options(conf);
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(&options);
    const lua_Alloc alloc = jemalloc_lua_heap_alloc(heap);
    const auto get = [&](std::size_t size) {
        return static_cast<unsigned char *>(alloc(heap, nullptr, 0, size));
    };
    unsigned char *large = get(40000);
    std::fill_n(large, 40000, 7);
    const rlimit some{400 * M, 400 * M};
    setrlimit(RLIMIT_AS, &some);
    for (const std::size_t size : {30000, 20000, 1000}) {
        while (get(size) != nullptr) {
        }
    }
    const auto *smaller = static_cast<unsigned char *>(alloc(heap, large, 40000, 20000));
    const unsigned char *start = smaller != nullptr ? smaller : large;
    const unsigned char *end = start + (smaller != nullptr ? 20000 : 40000);
    _exit(std::count(start, end, 7) == end - start ? 0 : 1);
}

TEST(ScrubDeathTest, LosesNothingOfABlockThatCouldNotShrink) {
    if (test::sanitized) GTEST_SKIP() << "a sanitizer's shadow has no room in 400 MiB";
    for (const char *conf : {"scrub:true", "scrub:true,harden:true", "scrub:true,front:direct"}) {
        EXPECT_EXIT(shrink_without_memory(conf), testing::ExitedWithCode(0), "") << conf;
    }
}

}  // namespace
