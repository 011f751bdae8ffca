// JEMALLOC_LUA_CONF, which is read once in a process: so each test looks into a child of its own.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "support.h"

namespace {

using Options = jemalloc_lua_options;

// A child that makes two states with JEMALLOC_LUA_CONF set to `conf` and ends with 0 if `is_right` says so of
// the second one.
void child(const char *conf, const std::function<bool(const jemalloc_lua_stats &)> &is_right) {
    if (conf == nullptr) {
        unsetenv("JEMALLOC_LUA_CONF");
    } else {
        setenv("JEMALLOC_LUA_CONF", conf, 1);
    }
    jemalloc_lua_close(jemalloc_lua_newstate());
    lua_State *L = jemalloc_lua_newstate();
    const bool right = L != nullptr && is_right(test::stats(L));
    jemalloc_lua_close(L);
    _exit(right ? 0 : 1);
}

TEST(Environment, GivesTheOptionsOfNewstate) {
    EXPECT_EXIT(child("limit:8M,front:checked",
                      [](const auto &stats) {
                          return stats.limit == 8 * test::M && stats.front == JEMALLOC_LUA_FRONT_CHECKED;
                      }),
                testing::ExitedWithCode(0), "^$");
}

TEST(Environment, MayBeUnsetOrEmpty) {
    for (const char *conf : {static_cast<const char *>(nullptr), ""}) {
        EXPECT_EXIT(child(conf, [](const auto &stats) { return stats.limit == 0; }),
                    testing::ExitedWithCode(0), "^$");
    }
}

TEST(Environment, ReportsABadPairOnceAndUsesTheRest) {
    const auto right = [](const auto &stats) { return stats.limit == 8 * test::M; };
    EXPECT_EXIT(child("retain:x,limit:8M", right), testing::ExitedWithCode(0),
                "^jemalloc_lua: JEMALLOC_LUA_CONF: retain: 'x' is not valid; it takes [^\n]*\n$");
    EXPECT_EXIT(child("limit:8M,colour:red", right), testing::ExitedWithCode(0),
                "^jemalloc_lua: JEMALLOC_LUA_CONF: unknown key 'colour'[^\n]*\n$");
    EXPECT_EXIT(child("limit:8M,limit:12Q", right), testing::ExitedWithCode(0),
                "^jemalloc_lua: JEMALLOC_LUA_CONF: limit: '12Q'[^\n]*\n$");
    EXPECT_EXIT(child("tcache:thread,limit:8M", right), testing::ExitedWithCode(0),
                "^jemalloc_lua: JEMALLOC_LUA_CONF: tcache:thread[^\n]*\n$");
}

TEST(Environment, ReportsEachBadPair) {
    EXPECT_EXIT(
        child("slab:24K,limit:8M,thp:no", [](const auto &stats) { return stats.limit == 8 * test::M; }),
        testing::ExitedWithCode(0), "^[^\n]*slab[^\n]*\n[^\n]*thp[^\n]*\n$");
}

TEST(Environment, DoesNotTouchOptionsThatAreGiven) {
    const auto exact = [] {
        setenv("JEMALLOC_LUA_CONF", "limit:8M", 1);
        Options options;
        jemalloc_lua_options_init(&options);
        lua_State *L = jemalloc_lua_newstate_opts(&options);
        _exit(options.limit == 0 && L != nullptr && test::stats(L).limit == 0 ? 0 : 1);
    };
    EXPECT_EXIT(exact(), testing::ExitedWithCode(0), "");
}

TEST(Environment, GivesTheOptionsWhereNoneAreGiven) {
    const auto defaulted = [] {
        setenv("JEMALLOC_LUA_CONF", "limit:8M", 1);
        lua_State *L = jemalloc_lua_newstate_opts(nullptr);
        jemalloc_lua_heap *heap = jemalloc_lua_heap_create(nullptr);
        if (L == nullptr || heap == nullptr) _exit(1);
        lua_State *M = lua_newstate(jemalloc_lua_heap_alloc(heap), heap);
        _exit(M != nullptr && test::stats(L).limit == 8 * test::M && test::stats(M).limit == 8 * test::M ? 0
                                                                                                         : 1);
    };
    EXPECT_EXIT(defaulted(), testing::ExitedWithCode(0), "");
}

}  // namespace
