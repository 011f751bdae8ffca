// Limits: what a program gets when it runs into one, and what the collector does before.

#include <cerrno>
#include <string>

#include "support.h"

namespace {

using test::K;
using test::M;
using test::run;
using test::State;
using test::stats;

class Limits : public test::FrontAndArena {};
ON_EVERY_FRONT_AND_ARENA(Limits);

constexpr const char *not_enough_memory = "not enough memory";

// Programs that never have enough, each in its own way.
constexpr const char *runaways[] = {
    "local t = {} for i = 1, 1e8 do t[i] = {} end",
    "local t = {} for i = 1, 1e8 do t[i] = i end",
    "local t = {} for i = 1, 1e8 do t['k' .. i] = true end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} for i = 1, 1e8 do t[i] = ('x'):rep(1000) .. i end",
    "local t = {} for i = 1, 1e8 do t[i] = coroutine.create(print) end",
    "local t = {} for i = 1, 1e8 do t[i] = function() return i end end",
    "local t = {} for i = 1, 1e8 do t[i] = newproxy() end",
    "local b = {} for i = 1, 1e8 do b[i] = loadstring('return ' .. i) end",
    "return ('x'):rep(1e9)",
};

TEST_P(Limits, StopRunawayProgramsAndLeaveTheStateUsable) {
    const State one = state("limit:8M");
    for (const char *program : runaways) {
        EXPECT_NE(std::string::npos, run(one.get(), program).find(not_enough_memory)) << program;
        EXPECT_LE(stats(one.get()).footprint, 8 * M) << program;
        test::collect(one.get());
        EXPECT_LT(test::lua_bytes(one.get()), M) << program;
        EXPECT_EQ("", run(one.get(), "local t = {} for i = 1, 1000 do t[i] = tostring(i) end")) << program;
    }
    EXPECT_GE(stats(one.get()).refusals, std::size(runaways));
}

TEST_P(Limits, HoldInTheInterpreterToo) {
    const State one = state("limit:8M");
    EXPECT_EQ("", run(one.get(), "jit.off()"));
    EXPECT_NE(std::string::npos, run(one.get(), runaways[0]).find(not_enough_memory));
    test::collect(one.get());
    EXPECT_EQ("", run(one.get(), "x = ('x'):rep(100000)"));
}

TEST_P(Limits, AreOfOneStateAlone) {
    const State small = state("limit:4M");
    const State big = state();
    EXPECT_NE("", run(small.get(), runaways[0]));
    EXPECT_EQ("", run(big.get(), "t = {} for i = 1, 200000 do t[i] = {i} end"));
    EXPECT_EQ(0u, stats(big.get()).refusals);
}

TEST_P(Limits, OfAnySizeEitherMakeAStateOrSayThereIsNoMemory) {
    const auto once = [&](std::size_t limit) {
        errno = 0;
        const State one = test::bare_state(conf("limit:" + std::to_string(limit)));
        if (one == nullptr) {
            EXPECT_EQ(ENOMEM, errno) << limit;
        } else {
            EXPECT_LE(stats(one.get()).footprint, limit);
        }
        return one != nullptr;
    };
    EXPECT_FALSE(once(1));
    EXPECT_TRUE(once(512 * K));
    const std::size_t before = test::jemalloc_bytes();
    for (std::size_t limit = 1; limit <= 64 * K; limit += 61) once(limit);
    test::expect_jemalloc_bytes(before);
}

TEST_P(Limits, OfAnySizeStopTheOpeningOfLibrariesCleanly) {
    state();  // the first one makes arenas
    const std::size_t before = test::jemalloc_bytes();
    int opened = 0;
    for (std::size_t limit = 16 * K; limit <= 512 * K; limit += 1 * K) {
        const State one = test::bare_state(conf("limit:" + std::to_string(limit)));
        if (one == nullptr) continue;
        if (test::open_libraries(one.get())) {
            ++opened;
            continue;
        }
        EXPECT_STREQ(not_enough_memory, lua_tostring(one.get(), -1)) << limit;
    }
    EXPECT_GT(opened, 0);
    test::expect_jemalloc_bytes(before);
}

// ---- The soft limit

// 2 MB of live data and a pause of 1000 %: left alone, the collector would not begin before 20 MB.
constexpr const char *lazy_collector = R"(
    live = {} for i = 1, 20000 do live[i] = {i, 'value ' .. i} end
    collectgarbage() collectgarbage('setpause', 1000) collectgarbage()
    assert(collectgarbage('count') > 1024)
    local churn = {}
    for i = 1, 1000000 do churn[i % 100 + 1] = {i} end
    for i = 1, 20000 do assert(live[i][1] == i) end)";

TEST_P(Limits, OfTheSoftKindMakeTheCollectorRunEarlier) {
    const State one = state("limit:12M");
    EXPECT_EQ("", run(one.get(), lazy_collector));
    EXPECT_GT(stats(one.get()).gc_pushes, 0u);
    EXPECT_EQ(0u, stats(one.get()).refusals);
}

TEST_P(Limits, WithoutTheSoftKindWouldStopThatProgram) {
    const State one = state("limit:12M,soft_limit:1G");
    EXPECT_NE(std::string::npos, run(one.get(), lazy_collector).find(not_enough_memory));
}

TEST_P(Limits, OfTheSoftKindWorkWithoutAHardOne) {
    const State one = state("soft_limit:8M");
    EXPECT_EQ("", run(one.get(), lazy_collector));
    EXPECT_GT(stats(one.get()).gc_pushes, 0u);
    EXPECT_LT(stats(one.get()).peak, 20 * M);
}

TEST_P(Limits, OfTheSoftKindAreNotPassedByAHarmlessProgram) {
    const State one = state("limit:64M");
    EXPECT_EQ("", run(one.get(), "local s = 0 for i = 1, 100000 do s = s + #tostring(i) end"));
    EXPECT_EQ(0u, stats(one.get()).gc_pushes);
}

TEST_P(Limits, LeaveTheCollectorsSpeedAsTheScriptSetIt) {
    const State one = state("limit:12M");
    EXPECT_EQ("", run(one.get(), "collectgarbage('setstepmul', 321)"));
    EXPECT_EQ("", run(one.get(), lazy_collector));
    EXPECT_EQ("", run(one.get(), "live = nil collectgarbage() collectgarbage()"));
    EXPECT_LT(stats(one.get()).footprint, stats(one.get()).soft_limit);
    EXPECT_EQ(321, test::number(one.get(), "collectgarbage('setstepmul', 200)"));
}

TEST_P(Limits, LeaveACollectorThatTheScriptHasStoppedAlone) {
    const State one = state("limit:12M");
    EXPECT_EQ("", run(one.get(), R"(
        collectgarbage() collectgarbage('stop')
        local finalized = false
        getmetatable(newproxy(true)).__gc = function() finalized = true end
        local full = not pcall(function() local t = {} for i = 1, 1e8 do t[i] = {} end end)
        assert(full and not finalized and not collectgarbage('isrunning'))
        collectgarbage()
        assert(finalized))"));
}

// ---- Limits of a live state

TEST_P(Limits, CanBeSetRaisedLoweredAndRemoved) {
    const State one = state();
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 8 * M));
    EXPECT_NE("", run(one.get(), runaways[0]));
    test::collect(one.get());
    const char *twelve = "t = ('x'):rep(12 * 2^20)";
    EXPECT_NE("", run(one.get(), twelve));
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 64 * M));
    EXPECT_EQ("", run(one.get(), twelve));
    EXPECT_EQ("", run(one.get(), "t = nil"));
    test::collect(one.get());
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 8 * M));
    EXPECT_NE("", run(one.get(), twelve));
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 0));
    EXPECT_EQ("", run(one.get(), twelve));
}

TEST_P(Limits, BelowTheFootprintRefuseUntilEnoughIsFreed) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), "kept = {} for i = 1, 100000 do kept[i] = {i} end"));
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 2 * M));
    EXPECT_GT(stats(one.get()).footprint, 2 * M);
    EXPECT_NE(std::string::npos, run(one.get(), "x = ('x'):rep(2^20)").find(not_enough_memory));
    lua_pushnil(one.get());  // even a program of one line would need memory
    lua_setfield(one.get(), LUA_GLOBALSINDEX, "kept");
    test::collect(one.get());
    jemalloc_lua_trim(one.get());
    EXPECT_EQ("", run(one.get(), "x = ('x'):rep(2^19)"));
    EXPECT_LE(stats(one.get()).footprint, 2 * M);
}

TEST_P(Limits, BringASoftLimitOf80PercentUnlessOneWasGiven) {
    const State one = state("limit:10M");
    EXPECT_EQ(10 * M, stats(one.get()).limit);
    EXPECT_EQ(8 * M, stats(one.get()).soft_limit);
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 20 * M));
    EXPECT_EQ(20 * M, stats(one.get()).limit);
    EXPECT_EQ(16 * M, stats(one.get()).soft_limit);
    ASSERT_EQ(0, jemalloc_lua_set_limit(one.get(), 0));
    EXPECT_EQ(0u, stats(one.get()).limit);
    EXPECT_EQ(0u, stats(one.get()).soft_limit);

    const State given = state("limit:10M,soft_limit:5M");
    EXPECT_EQ(5 * M, stats(given.get()).soft_limit);
    ASSERT_EQ(0, jemalloc_lua_set_limit(given.get(), 20 * M));
    EXPECT_EQ(5 * M, stats(given.get()).soft_limit);
}

TEST_P(Limits, MayBeSetByTheStateThatIsBeyondThem) {
    const State one = state("soft_limit:1M,limit:8M");
    EXPECT_EQ("", run(one.get(), "kept = {} for i = 1, 20000 do kept[i] = {i} end"));
    for (const std::size_t limit : {4 * M, std::size_t{0}, 1 * M, 64 * M}) {
        EXPECT_EQ(0, jemalloc_lua_set_limit(one.get(), limit));
        run(one.get(), "local t = {} for i = 1, 20000 do t[i] = {i} end");
    }
    EXPECT_EQ("", run(one.get(), "for i = 1, 20000 do assert(kept[i][1] == i) end"));
}

}  // namespace
