// Many states: alive at once, past jemalloc's number of arenas and tcaches, and one after another for long.
// Each in a program run of its own, since arenas that were made once stay.

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "support.h"

namespace {

using test::K;
using test::M;
using test::State;
using test::stats;

std::vector<State> make(const std::string &conf, int count) {
    std::vector<State> states;
    states.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        states.push_back(test::bare_state(conf));
        EXPECT_NE(nullptr, states.back()) << "state " << i << " of " << conf;
        if (states.back() == nullptr) break;
        lua_pushinteger(states.back().get(), i);
        lua_setfield(states.back().get(), LUA_GLOBALSINDEX, "me");
    }
    return states;
}

// Each state still knows what it was told, and can go on.
void use(const std::vector<State> &states, int tables = 50) {
    for (std::size_t i = 0; i < states.size(); ++i) {
        lua_State *L = states[i].get();
        lua_getfield(L, LUA_GLOBALSINDEX, "me");
        ASSERT_EQ(static_cast<lua_Integer>(i), lua_tointeger(L, -1));
        lua_pop(L, 1);
        ASSERT_EQ("",
                  test::run(L, "t = {} for i = 1, " + std::to_string(tables) + " do t[i] = {me + i} end"));
    }
}

void close_in_any_order(std::vector<State> &states) {
    std::shuffle(states.begin(), states.end(), std::mt19937(9));
    states.clear();
}

class Many : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, Many, testing::Values("slab", "direct", "checked"),
                         [](const auto &info) { return info.param; });

TEST_P(Many, TwentyThousandStatesLiveAtOnce) {
    // front:checked keeps a quarantine for each.
    const int count = test::sanitized || GetParam() == "checked" ? 6000 : 20000;
    std::vector<State> states = make("front:" + GetParam() + ",arena:auto", count);
    use(states);
    const std::size_t each = test::resident_bytes() / states.size();
    if (!test::thread_sanitized) {
        EXPECT_LT(each, (GetParam() == "slab" ? 64 : GetParam() == "direct" ? 160 : 400) * K);
    }
    close_in_any_order(states);
}

TEST_P(Many, StatesPastTheLastArenaShareOneAndSaySo) {
    std::vector<State> states = make("front:" + GetParam() + ",arena:own", 5000);
    EXPECT_EQ(0u, stats(states.front().get()).fallbacks & JEMALLOC_LUA_FALLBACK_ARENA);
    EXPECT_NE(0u, stats(states.back().get()).fallbacks & JEMALLOC_LUA_FALLBACK_ARENA);
    use(states);
    close_in_any_order(states);
    // What was given back serves again.
    const State next = test::state("front:" + GetParam() + ",arena:own");
    EXPECT_EQ(0u, stats(next.get()).fallbacks);
}

TEST_P(Many, StatesThatGrowPastTheLastArenaStayOnTheShared) {
    std::vector<State> states =
        make("front:" + GetParam() + ",arena:auto,arena_threshold:0,nursery:16K", 4500);
    use(states, 300);
    EXPECT_NE(0u, stats(states.back().get()).fallbacks & JEMALLOC_LUA_FALLBACK_ARENA);
    close_in_any_order(states);
}

TEST(Tcaches, ThatCannotBeHadAreDoneWithout) {
    std::vector<State> states = make("front:direct,arena:shared,tcache:own", 5000);
    EXPECT_EQ(0u, stats(states.front().get()).fallbacks);
    EXPECT_EQ(JEMALLOC_LUA_FALLBACK_TCACHE, stats(states.back().get()).fallbacks);
    use(states);
    close_in_any_order(states);
}

// ---- One after another

struct Course {
    std::string conf;
    int count;
};
void PrintTo(const Course &course, std::ostream *out) {
    *out << course.conf;
}

class OneAfterAnother : public testing::TestWithParam<Course> {};
INSTANTIATE_TEST_SUITE_P(, OneAfterAnother,
                         testing::Values(Course{"front:slab,arena:auto", 100000},
                                         Course{"front:slab,arena:own", 20000},
                                         Course{"front:slab,arena:thread", 20000},
                                         Course{"front:slab,arena:auto,arena_threshold:0", 10000},
                                         Course{"front:direct,arena:auto", 100000},
                                         Course{"front:direct,arena:own", 20000},
                                         Course{"front:direct,arena:thread,tcache:thread", 20000},
                                         Course{"front:checked,arena:auto", 5000}),
                         [](const auto &info) {
                             std::string name = info.param.conf;
                             for (char &c : name) {
                                 if (c == ':' || c == ',') c = '_';
                             }
                             return name;
                         });

TEST_P(OneAfterAnother, StatesComeAndGoWithoutGrowth) {
    const int count = test::sanitized ? GetParam().count / 20 : GetParam().count;
    const jemalloc_lua_options options = test::options(GetParam().conf);
    const auto cycle = [&](int i) {
        lua_State *L = jemalloc_lua_newstate_opts(&options);
        ASSERT_NE(nullptr, L);
        if (i % 50 == 0) {
            ASSERT_TRUE(test::open_libraries(L));
        }
        lua_newtable(L);
        for (int k = 1; k <= 20; ++k) {
            lua_pushfstring(L, "value %d", k);
            lua_rawseti(L, -2, k);
        }
        i % 2 == 0 ? lua_close(L) : jemalloc_lua_close(L);
    };
    for (int i = 0; i < count / 10; ++i) cycle(i);
    const std::size_t held = test::jemalloc_bytes();
    const std::size_t resident = test::resident_bytes();
    for (int i = 0; i < count; ++i) cycle(i);
    test::expect_jemalloc_bytes(held);
    // ThreadSanitizer's shadow stays.
    if (!test::thread_sanitized) {
        EXPECT_LT(test::resident_bytes(), resident + 4 * M);
    }
}

}  // namespace
