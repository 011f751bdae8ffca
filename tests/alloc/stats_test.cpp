// Statistics: that they add up, that they follow the program, and how they are printed. And trim, whose
// effect they show.

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "heap/stats.h"
#include "support.h"

namespace {

using test::K;
using test::M;
using test::run;
using test::State;
using test::stats;
using Stats = jemalloc_lua_stats;

class Statistics : public test::FrontAndArena {};
ON_EVERY_FRONT_AND_ARENA(Statistics);

constexpr const char *grow = "kept = {} for i = 1, 50000 do kept[i] = {i, 'value ' .. i} end";
constexpr const char *drop = "kept = nil collectgarbage() collectgarbage()";

TEST_P(Statistics, AddUp) {
    const State one = state("limit:256M");
    const char *steps[] = {"",
                           grow,
                           "s = ('x'):rep(2^20)",
                           "s = s .. s .. s",
                           "kept = nil",
                           drop,
                           "co = {} for i = 1, 500 do co[i] = coroutine.create(print) end",
                           grow,
                           drop};
    std::size_t peak = 0;
    for (const char *step : steps) {
        EXPECT_EQ("", run(one.get(), step));
        const Stats now = stats(one.get());
        EXPECT_EQ(test::lua_bytes(one.get()), now.live) << step;
        EXPECT_GE(now.footprint, now.live) << step;
        EXPECT_GE(now.peak, now.footprint) << step;
        EXPECT_GE(now.peak, peak) << step;
        EXPECT_LE(now.large_bytes + now.cached_bytes, now.footprint) << step;
        EXPECT_LE(now.empty_slabs, now.slabs) << step;
        EXPECT_EQ(0u, now.refusals) << step;
        peak = now.peak;
    }
    EXPECT_GT(peak, 3 * M);
}

TEST_P(Statistics, FollowTheProgramUpAndDown) {
    const State one = state();
    const Stats small = stats(one.get());
    EXPECT_EQ("", run(one.get(), grow));
    const Stats big = stats(one.get());
    EXPECT_GT(big.footprint, small.footprint + 3 * M);
    EXPECT_EQ("", run(one.get(), drop));
    jemalloc_lua_trim(one.get());
    EXPECT_LT(stats(one.get()).footprint, small.footprint + M);
    EXPECT_GE(stats(one.get()).peak, big.peak);
}

// More than the system has, however much is idle that could be given up for it.
TEST_P(Statistics, TellNoPeakThatWasNot) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), grow));
    EXPECT_EQ("", run(one.get(), drop));
    const Stats before = stats(one.get());
    void *heap = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &heap);
    EXPECT_EQ(nullptr, alloc(heap, nullptr, 0, std::size_t{1} << 60));
    void *block = alloc(heap, nullptr, 0, 4 * M);
    EXPECT_EQ(nullptr, alloc(heap, block, 4 * M, std::size_t{1} << 60));
    alloc(heap, block, 4 * M, 0);
    EXPECT_EQ(before.refusals + 2, stats(one.get()).refusals);
    EXPECT_GE(stats(one.get()).peak, before.peak);
    EXPECT_LE(stats(one.get()).peak, before.peak + 16 * M);
}

// Whether in place, by moving pages or by copying: it is one request.
TEST_P(Statistics, CountARefusalOnce) {
    const State one = state("limit:8M");
    void *heap = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &heap);
    for (const std::size_t size : {std::size_t{100}, 2 * K, 40 * K, 300 * K}) {
        void *block = alloc(heap, nullptr, 0, size);
        const std::uint64_t before = stats(one.get()).refusals;
        EXPECT_EQ(nullptr, alloc(heap, block, size, 20 * M));
        EXPECT_EQ(before + 1, stats(one.get()).refusals) << size;
        EXPECT_EQ(nullptr, alloc(heap, nullptr, 0, 20 * M));
        EXPECT_EQ(before + 2, stats(one.get()).refusals) << size;
        alloc(heap, block, size, 0);
    }
}

TEST_P(Statistics, AreTheSameAsSeenByACoroutine) {
    const State one = state();
    lua_State *thread = lua_newthread(one.get());
    EXPECT_EQ(stats(one.get()).footprint, stats(thread).footprint);
    EXPECT_EQ(stats(one.get()).live, stats(thread).live);
}

TEST(SlabStatistics, TellSlabsLargeBlocksAndTheNursery) {
    const State one = test::state("front:slab,nursery:64K,slab:32K");
    const Stats idle = stats(one.get());
    EXPECT_GT(idle.nursery_used, 16 * K);
    EXPECT_LE(idle.nursery_used, 64 * K);
    EXPECT_EQ("", run(one.get(), grow));
    const Stats big = stats(one.get());
    EXPECT_GT(big.slabs, idle.slabs + 100);
    EXPECT_GE(big.large_blocks, 1u) << "the array of 50,000";
    EXPECT_GE(big.large_bytes, 50000u * 8);
    EXPECT_GE(big.footprint, big.slabs * 32 * K + big.large_bytes + big.cached_bytes);
}

// What is not reached of the nursery neither counts nor is touched, and the limit holds in it.
TEST(SlabStatistics, CountTheNurseryAsItIsUsed) {
    for (const std::string more : {"", ",harden:true"}) {
        const std::size_t before = test::resident_bytes();
        std::vector<State> many;
        for (int i = 0; i < 64; ++i)
            many.push_back(test::bare_state("front:slab,nursery:1M,slab:32K" + more));
        for (const State &one : many) {
            EXPECT_GE(stats(one.get()).footprint, stats(one.get()).nursery_used);
            EXPECT_LE(stats(one.get()).footprint, 64 * K);
        }
        if (!test::sanitized) {
            EXPECT_LE(test::resident_bytes(), before + 64 * 64 * K);
        }
        const State small = test::state("front:slab,nursery:1M,slab:32K,limit:200K" + more);
        EXPECT_NE("", run(small.get(), "t = {} for i = 1, 1e6 do t[i] = {} end"));
        EXPECT_LE(stats(small.get()).peak, 200 * K);
        EXPECT_GT(stats(small.get()).nursery_used, 100 * K);
    }
}

// What was given back is taken again where it can be, and goes to the system before more comes on top of it.
TEST(SlabStatistics, TellThatALargerBlockComesInPlaceOfWhatWasGivenBack) {
    const State one = test::state("front:slab,arena:own");
    void *heap = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &heap);
    const auto once = [&](std::size_t size) { alloc(heap, alloc(heap, nullptr, 0, size), size, 0); };
    for (int i = 0; i < 10; ++i) once(3 * M);
    EXPECT_EQ(0u, stats(one.get()).purged);
    void *larger = alloc(heap, nullptr, 0, 16 * M);
    EXPECT_GE(stats(one.get()).purged, 3 * M);
    alloc(heap, larger, 16 * M, 0);
}

TEST_P(Statistics, CountRequests) {
    const State one = state();
    const std::uint64_t before = stats(one.get()).requests;
    EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 1e5 do t[i] = {i} end"));
    EXPECT_GE(stats(one.get()).requests - before, 100'000u);
    EXPECT_LE(stats(one.get()).requests - before, 250'000u);
}

// ---- Asking for them

std::string format(const Stats &some, int json) {
    std::string text(static_cast<std::size_t>(jemalloc_lua_stats_format(&some, json, nullptr, 0)) + 1, '?');
    EXPECT_EQ(static_cast<int>(text.size()) - 1,
              jemalloc_lua_stats_format(&some, json, text.data(), text.size()));
    text.pop_back();
    return text;
}

TEST(GetStats, RefusesAStructThatIsTooSmall) {
    const State one(jemalloc_lua_newstate());
    EXPECT_EQ(EINVAL, jemalloc_lua_get_stats(one.get(), nullptr));
    for (const std::size_t size : {std::size_t{0}, std::size_t{8}, offsetof(Stats, requests) - 1}) {
        Stats some;
        std::memset(&some, '#', sizeof some);
        some.size = size;
        EXPECT_EQ(EINVAL, jemalloc_lua_get_stats(one.get(), &some));
        EXPECT_EQ('#', *reinterpret_cast<char *>(&some.live)) << "written to";
    }
}

// What programs compiled against version 1.0 pass, whose last field was `fallbacks`.
TEST(GetStats, WritesNoMoreThanTheCallersVersionHas) {
    const State one = test::state("arena:own,limit:16M");
    Stats some;
    std::memset(&some, '#', sizeof some);
    some.size = offsetof(Stats, requests);
    EXPECT_EQ(0, jemalloc_lua_get_stats(one.get(), &some));
    EXPECT_EQ(16 * M, some.limit);
    EXPECT_EQ(std::string(sizeof some.requests, '#'),
              std::string(reinterpret_cast<char *>(&some.requests), sizeof some.requests));
    EXPECT_NE(std::string::npos, format(some, 1).find("\"requests\":0"));
}

TEST(GetStats, ZeroesFieldsThatItDoesNotKnow) {
    struct Later {
        Stats known{};
        char added[32];
    } later;
    std::memset(static_cast<void *>(&later), '#', sizeof later);
    later.known.size = sizeof later;
    const State one(jemalloc_lua_newstate());
    EXPECT_EQ(0, jemalloc_lua_get_stats(one.get(), &later.known));
    EXPECT_EQ(sizeof later, later.known.size);
    EXPECT_GT(later.known.live, 0u);
    EXPECT_EQ(std::string(32, '\0'), std::string(later.added, 32));
}

// ---- The table and the header

struct Field {
    std::string name;
    std::string comment;
};

// The fields of jemalloc_lua_stats after `size`, as the public header declares them.
std::vector<Field> header_fields() {
    std::ifstream file(TEST_HEADER);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::size_t begin = text.find("typedef struct jemalloc_lua_stats {");
    const std::string fields = text.substr(begin, text.find("} jemalloc_lua_stats;") - begin);
    const std::regex declaration(R"((?:size_t|uint64_t|unsigned) (\w+);\s*/\* ([^]*?) \*/)");
    std::vector<Field> found;
    for (std::sregex_iterator at(fields.begin(), fields.end(), declaration), end; at != end; ++at) {
        found.push_back({(*at)[1], std::regex_replace((*at)[2].str(), std::regex(R"(\s+)"), " ")});
    }
    return found;
}

// The struct's layout holds the table's order already, by a static_assert.
TEST(StatisticsTable, SaysWhatTheHeaderSaysInTheSameOrder) {
    const auto rows = jemalloc_lua::statistics();
    const std::vector<Field> fields = header_fields();
    ASSERT_EQ(fields.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(fields[i].name, rows[i].name);
        EXPECT_EQ(fields[i].comment, rows[i].help) << rows[i].name;
    }
}

TEST(StatisticsTable, HasAHeadForEachColumn) {
    for (const auto &row : jemalloc_lua::statistics()) {
        EXPECT_EQ(row.shown != jemalloc_lua::nowhere, row.head != nullptr) << row.name;
        EXPECT_EQ(row.unit == jemalloc_lua::Unit::word || row.unit == jemalloc_lua::Unit::words,
                  row.words != nullptr)
            << row.name;
    }
}

// ---- Printing

TEST(StatsFormat, IsATableForPeople) {
    const State one = test::state("front:direct,limit:16M");
    const std::string table = format(stats(one.get()), 0);
    for (const auto &[name, comment] : header_fields())
        EXPECT_NE(std::string::npos, ("\n" + table).find("\n" + name + " ")) << name;
    EXPECT_NE(std::string::npos, table.find("direct"));
    EXPECT_NE(std::string::npos, table.find("16,777,216"));
}

TEST(StatsFormat, IsJsonForPrograms) {
    const State one = test::state("front:direct,limit:16M");
    const Stats now = stats(one.get());
    const auto json = nlohmann::json::parse(format(now, 1));
    for (const auto &[name, comment] : header_fields()) EXPECT_TRUE(json.contains(name)) << name;
    EXPECT_EQ("direct", json["front"]);
    EXPECT_EQ("none", json["fallbacks"]);
    Stats some{};
    some.size = sizeof some;
    some.front = 77;
    some.fallbacks = JEMALLOC_LUA_FALLBACK_ARENA | JEMALLOC_LUA_FALLBACK_TCACHE;
    EXPECT_EQ("unknown", nlohmann::json::parse(format(some, 1))["front"]);
    EXPECT_EQ("arena and tcache", nlohmann::json::parse(format(some, 1))["fallbacks"]);
    EXPECT_EQ(16 * M, json["limit"]);
    EXPECT_EQ(now.live, json["live"]);
    EXPECT_EQ(now.footprint, json["footprint"]);
}

TEST(StatsFormat, WritesAsSnprintfDoes) {
    Stats some{};
    some.size = sizeof some;
    char buf[8];
    std::memset(buf, '#', sizeof buf);
    const int length = jemalloc_lua_stats_format(&some, 1, nullptr, 0);
    EXPECT_EQ(length, jemalloc_lua_stats_format(&some, 1, buf, 0));
    EXPECT_EQ('#', buf[0]);
    EXPECT_EQ(length, jemalloc_lua_stats_format(&some, 1, buf, 4));
    EXPECT_EQ(3u, std::strlen(buf));
    EXPECT_EQ('#', buf[4]);
}

// ---- Trim

TEST_P(Statistics, TrimGivesUnusedMemoryBack) {
    if (test::thread_sanitized) GTEST_SKIP() << "ThreadSanitizer's shadow stays";
    const State one = state();
    const std::size_t start = test::resident_bytes();
    EXPECT_EQ("", run(one.get(), "kept = {} for i = 1, 400000 do kept[i] = {i} end"));
    const std::size_t grown = test::resident_bytes() - start;
    EXPECT_GT(grown, 25 * M);
    EXPECT_EQ("", run(one.get(), drop));
    jemalloc_lua_trim(one.get());
    // The records of front:checked stay.
    const std::size_t shadow = test::sanitized ? grown / 8 : 0;  // the sanitizer's stays
    EXPECT_LT(test::resident_bytes(), start + (front() == "checked" ? grown / 2 : 10 * M) + shadow);
    EXPECT_EQ("", run(one.get(), grow));
}

TEST_P(Statistics, AClosedStatesMemoryIsGivenBack) {
    if (test::thread_sanitized) GTEST_SKIP() << "ThreadSanitizer's shadow stays";
    if (arena() == "thread") GTEST_SKIP() << "the thread's arena keeps what jemalloc's decay leaves it";
    if (front() == "checked") GTEST_SKIP() << "its records are jemalloc's to keep or to give back";
    const State first = state();  // what the first one sets up stays
    const std::size_t start = test::resident_bytes();
    for (const bool at_once : {true, false}) {
        State one = state();
        EXPECT_EQ("", run(one.get(), "kept = {} for i = 1, 400000 do kept[i] = {i} end"));
        EXPECT_GT(test::resident_bytes(), start + 20 * M);
        at_once ? jemalloc_lua_close(one.release()) : lua_close(one.release());
        EXPECT_LT(test::resident_bytes(), start + (test::sanitized ? 20 : 10) * M);  // its shadow stays
    }
}

TEST_P(Statistics, TrimSaysWhatItGaveBack) {
    if (arena() == "own") {
        const State one = state("dirty_decay_ms:-1,muzzy_decay_ms:-1,retain:10000");
        EXPECT_EQ("", run(one.get(), grow));
        EXPECT_EQ("", run(one.get(), drop));
        const std::size_t bytes = jemalloc_lua_trim(one.get());
        EXPECT_GT(bytes, 2 * M);
        EXPECT_EQ(bytes, stats(one.get()).purged);
    } else {
        const State one = state();
        EXPECT_EQ("", run(one.get(), grow));
        const std::size_t held = stats(one.get()).footprint;
        EXPECT_LT(jemalloc_lua_trim(one.get()), held) << "all of it is live";
        EXPECT_EQ("", run(one.get(), "for i = 1, 50000 do assert(kept[i][1] == i) end"));
    }
}

TEST_P(Statistics, TrimDoesNotCollect) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), "collectgarbage('stop') " + std::string(grow) + " kept = nil"));
    const std::size_t live = stats(one.get()).live;
    jemalloc_lua_trim(one.get());
    EXPECT_EQ(live, stats(one.get()).live);
}

}  // namespace
