// The address guard, with a lower bound than LuaJIT's: what the kernel gives lies above it, as it lies above
// LuaJIT's on an AArch64 with 48 bits of address space, where these tests run with the true bound as well
// (tools/test-arm64).

#include "luajit/layout.h"
#include "system/mappings.h"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "support.h"
#include "system/arenas.h"
#include "system/extent_hooks.h"

namespace {

namespace je = jemalloc_lua::je;
using test::K;
using test::M;

bool kernel_gives_above(std::uintptr_t end) {
    void *ptr = mmap(nullptr, M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(MAP_FAILED, ptr);
    munmap(ptr, M);
    return reinterpret_cast<std::uintptr_t>(ptr) >= end;
}

// qemu begins above 2^38, kernels above 2^46.
const std::uintptr_t low_end = std::uintptr_t{1} << (kernel_gives_above(std::uintptr_t{1} << 46) ? 46 : 38);

// Before the first arena is made.
[[maybe_unused]] const bool guarded = [] {
    setenv("JEMALLOC_LUA_CONF", "address_guard:true", 1);
    jemalloc_lua::lower_address_end(low_end);
    return true;
}();

// One place in 128 below 2^46 is left to a program, and hints for others are not passed on to the kernel.
constexpr const char *taken_by_tsan = "ThreadSanitizer has the low addresses for itself";

bool is_below(const void *ptr, std::size_t size, std::uintptr_t end = low_end) {
    return ptr != nullptr && reinterpret_cast<std::uintptr_t>(ptr) + size <= end;
}

class AddressGuard : public test::FrontAndArena {
  protected:
    void SetUp() override {
        if (test::thread_sanitized) GTEST_SKIP() << taken_by_tsan;
        ASSERT_TRUE(kernel_gives_above(low_end)) << "the bound is not low enough to show anything";
    }
};
ON_EVERY_FRONT_AND_ARENA(AddressGuard);

TEST_P(AddressGuard, KeepsEveryBlockBelow) {
    const test::State one = state();
    EXPECT_TRUE(is_below(one.get(), 1));
    void *ud = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &ud);
    EXPECT_TRUE(is_below(ud, 1));
    void *grown = alloc(ud, nullptr, 0, 16);
    for (std::size_t size = 16; size <= 64 * M; size *= 2) {
        void *ptr = alloc(ud, nullptr, 0, size);
        EXPECT_TRUE(is_below(ptr, size)) << size;
        std::memset(ptr, 1, size < M ? size : M);
        grown = alloc(ud, grown, size, 2 * size);
        EXPECT_TRUE(is_below(grown, 2 * size)) << size;
        alloc(ud, ptr, size, 0);
    }
    alloc(ud, grown, 128 * M, 0);
    EXPECT_EQ("", test::run(one.get(), "local t = {} for i = 1, 200000 do t[i] = {('x'):rep(i % 99)} end"));
}

TEST_P(AddressGuard, KeepsArenasThatAreUsedAgainBelow) {
    for (int i = 0; i < 20; ++i) {
        const test::State one = state("arena_threshold:0");
        EXPECT_TRUE(jemalloc_lua::arena_is_guarded(test::stats(one.get()).arena));
        EXPECT_EQ(
            "", test::run(one.get(), "local t = {} for i = 1, 20000 do t[i] = {i} end s = ('x'):rep(2^22)"));
        void *ud = nullptr;
        const lua_Alloc alloc = lua_getallocf(one.get(), &ud);
        void *ptr = alloc(ud, nullptr, 0, 3 * M);
        EXPECT_TRUE(is_below(ptr, 3 * M));
        alloc(ud, ptr, 3 * M, 0);
    }
}

// jemalloc's own arenas have no guard, and hold memory from before there could be any.
TEST(AddressGuardOfForeignArenas, GivesASharedArenaInsteadAndSaysSo) {
    if (test::thread_sanitized) GTEST_SKIP() << taken_by_tsan;
    for (const char *front : {"slab", "direct", "checked"}) {
        for (const char *conf : {"arena:thread", "arena:0", "arena:thread,tcache:thread"}) {
            const test::State one = test::state(std::string("front:") + front + "," + conf);
            const jemalloc_lua_stats stats = test::stats(one.get());
            EXPECT_EQ(unsigned{JEMALLOC_LUA_FALLBACK_ARENA}, stats.fallbacks) << front << " " << conf;
            EXPECT_TRUE(jemalloc_lua::arena_is_guarded(stats.arena)) << front << " " << conf;
            EXPECT_TRUE(is_below(one.get(), 1)) << front << " " << conf;
        }
        const unsigned ours = jemalloc_lua::shared_arena();
        const test::State one = test::state(std::string("front:") + front + ",arena:" + std::to_string(ours));
        EXPECT_EQ(ours, test::stats(one.get()).arena);
        EXPECT_EQ(0u, test::stats(one.get()).fallbacks);
    }
}

// The same requests to an arena with the guard and to one without come to the same, page for page.
TEST(AddressGuardHooks, LetAnArenaGrowAndRetainAsEver) {
    if (test::sanitized) GTEST_SKIP() << "the sanitizer is between";
    const auto after = [](extent_hooks_t *hooks) {
        unsigned index = 0;
        std::size_t size = sizeof index;
        EXPECT_EQ(0, je::mallctl("arenas.create", &index, &size, hooks == nullptr ? nullptr : &hooks,
                                 hooks == nullptr ? 0 : sizeof hooks));
        const int flags = je::arena_flag(index) | je::no_tcache_flag;
        std::array<void *, 500> blocks{};
        const auto size_of = [](std::size_t i) { return (i * 7919 % 97 + 1) * 4 * K; };
        for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = je::mallocx(size_of(i), flags);
        for (std::size_t i = 0; i < blocks.size(); i += 2)
            je::sdallocx(blocks[i], size_of(i), je::no_tcache_flag);
        void *large = je::mallocx(40 * M, flags);
        je::sdallocx(large, 40 * M, je::no_tcache_flag);
        jemalloc_lua::purge_arena(index);
        std::uint64_t epoch = 1;
        je::mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
        std::string text;
        for (const char *name : {"mapped", "retained", "pactive", "pdirty", "pmuzzy", "extent_avail"}) {
            const std::string path = "stats.arenas." + std::to_string(index) + "." + name;
            text += std::string(name) + " " + std::to_string(je::read<std::size_t>(path.c_str())) + "\n";
        }
        return text;
    };
    const std::string plain = after(nullptr);
    EXPECT_NE(std::string::npos, plain.find("retained"));
    EXPECT_EQ(plain, after(jemalloc_lua::arena_hooks()));
}

// ---- In a process of its own, with other settings. Death tests run first, before there is an arena.

class AddressGuardDeathTest : public testing::Test {
  protected:
    void SetUp() override {
        if (test::thread_sanitized) GTEST_SKIP() << "no death tests under ThreadSanitizer";
    }

    static lua_State *make(const char *setting, std::uintptr_t end, const char *conf) {
        setenv("JEMALLOC_LUA_CONF", setting, 1);
        jemalloc_lua::lower_address_end(end);
        const jemalloc_lua_options options = test::options(conf);
        errno = 0;
        return jemalloc_lua_newstate_opts(&options);
    }
};

TEST_F(AddressGuardDeathTest, HasNoEffectWhereItIsOff) {
    EXPECT_EXIT(
        {
            const lua_State *L = make("address_guard:false", low_end, "");
            // Where the kernel goes above 2^47, LuaJIT gets no state; elsewhere it gets one above the bound.
            const bool right = kernel_gives_above(jemalloc_lua::luajit::address_end)
                                   ? L == nullptr && errno == ENOMEM
                                   : L != nullptr && !is_below(L, 1);
            _exit(right ? 0 : 1);
        },
        testing::ExitedWithCode(0), "^$");
}

TEST_F(AddressGuardDeathTest, LetsStatesBeMadeWhereTheKernelGoesTooHigh) {
    if (!kernel_gives_above(jemalloc_lua::luajit::address_end)) GTEST_SKIP() << "it does not here";
    EXPECT_EXIT(
        {
            lua_State *L = make("", jemalloc_lua::luajit::address_end, "");
            const bool right = is_below(L, 1, jemalloc_lua::luajit::address_end) && test::open_libraries(L);
            jemalloc_lua_close(L);
            _exit(right ? 0 : 1);
        },
        testing::ExitedWithCode(0), "^$");
}

TEST_F(AddressGuardDeathTest, RefusesAStateWhereThereIsNoLowAddressLeft) {
    for (const char *conf : {"front:slab", "front:direct", "front:checked", "harden:true", "arena:own"}) {
        EXPECT_EXIT(
            _exit(make("address_guard:true", std::uintptr_t{1} << 32, conf) == nullptr && errno == ENOMEM
                      ? 0
                      : 1),
            testing::ExitedWithCode(0), "^$")
            << conf;
    }
}

TEST_F(AddressGuardDeathTest, RefusesABlockWhereThereIsNoLowAddressLeft) {
    if (test::sanitized) GTEST_SKIP() << "what lies above 4 GiB is the sanitizer's shadow";
    for (const char *conf : {"front:slab", "front:direct", "front:checked", "harden:true", "arena:own"}) {
        EXPECT_EXIT(
            {
                lua_State *L = make("address_guard:true", (std::uintptr_t{1} << 32) + 128 * M, conf);
                if (L == nullptr || !test::open_libraries(L)) _exit(2);
                const std::string error =
                    test::run(L, "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(2^16) .. i end");
                lua_gc(L, LUA_GCCOLLECT, 0);
                const bool usable = test::run(L, "assert(#('x'):rep(2^20) == 2^20)").empty();
                jemalloc_lua_close(L);
                _exit(error.find("not enough memory") == std::string::npos ? 3 : usable ? 0 : 4);
            },
            testing::ExitedWithCode(0), "^$")
            << conf;
    }
}

// ---- What it is for

void *too_high(void *, void *, std::size_t, std::size_t) {
    return reinterpret_cast<void *>(jemalloc_lua::luajit::address_end);
}

TEST(LuaJit, RefusesAStateBlockAbove47Bits) {
    EXPECT_EQ(nullptr, lua_newstate(too_high, nullptr));
}

}  // namespace
