// States: made, used, told apart, and closed with nothing left behind.

#include <cerrno>
#include <cstdlib>
#include <set>
#include <string>

#include "support.h"
#include "system/arenas.h"
#include "system/jemalloc.h"

namespace {

using test::FrontAndArena;
using test::K;
using test::M;
using test::number;
using test::run;
using test::State;
using test::stats;

unsigned arena_of(const State &state) {
    unsigned index = ~0u;
    EXPECT_EQ(0, jemalloc_lua_get_arena(state.get(), &index));
    return index;
}

// A program that uses strings, tables, closures, coroutines, userdata, finalizers and the compiler, and
// knows its own result.
constexpr const char *everything = R"(
    local words, seen, sum = {}, {}, 0
    for i = 1, 3000 do words[i] = ('w'):rep(i % 40) .. (i % 700) end
    for i, w in ipairs(words) do seen[w] = (seen[w] or 0) + i end
    for w, n in pairs(seen) do sum = sum + n + #w end
    local function iterator(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
    for i = 1, 200 do for k in iterator(i % 7) do sum = sum + k end end
    local adders = {}
    for i = 1, 1000 do adders[i] = function(x) return x + i end end
    for i = 1, 1000 do sum = adders[i](sum) end
    local finalized = 0
    for i = 1, 100 do
        local p = newproxy(true)
        getmetatable(p).__gc = function() finalized = finalized + 1 end
    end
    local array = {}
    for i = 1, 100000 do array[i] = i end
    sum = sum + #table.concat(array, ',') + loadstring('return ' .. ('1+'):rep(200) .. '0')()
    collectgarbage() collectgarbage()
    sum = sum + finalized
    if jit then sum = sum + tonumber(require('ffi').new('uint8_t[?]', 5000, 1)[4999] or 0) end
    return sum)";

double result_of(lua_State *L) {
    EXPECT_EQ("", run(L, "function everything() " + std::string(everything) + " end"));
    return number(L, "everything()");
}

class States : public FrontAndArena {};
ON_EVERY_FRONT_AND_ARENA(States);

// A host or a profiler that counts the requests of a state, and hands each on.
struct Wrapper {
    lua_Alloc function = nullptr;
    void *ud = nullptr;
    int requests = 0;

    static void *alloc(void *wrapper, void *block, std::size_t old_size, std::size_t new_size) {
        auto *self = static_cast<Wrapper *>(wrapper);
        ++self->requests;
        return self->function(self->ud, block, old_size, new_size);
    }
};

TEST_P(States, AreFoundBehindAWrapperOfTheirHosts) {
    State one = state();
    ASSERT_TRUE(one);
    Wrapper wrapper;
    wrapper.function = lua_getallocf(one.get(), &wrapper.ud);
    lua_setallocf(one.get(), Wrapper::alloc, &wrapper);

    EXPECT_EQ(0, jemalloc_lua_set_limit(one.get(), 16 * M));
    lua_State *coroutine = lua_newthread(one.get());
    jemalloc_lua_stats found{};
    found.size = sizeof found;
    EXPECT_EQ(0, jemalloc_lua_get_stats(coroutine, &found));
    EXPECT_EQ(16 * M, found.limit);
    EXPECT_NE("", run(one.get(), "local t = {} for i = 1, 1e7 do t[i] = {} end"));
    EXPECT_GT(stats(one.get()).refusals, 0u);
    EXPECT_GT(wrapper.requests, 1000);
    jemalloc_lua_close(one.release());
}

TEST_P(States, AreFoundThatWereMadeBehindAWrapper) {
    const test::Heap heaps[2] = {heap(), heap()};
    Wrapper wrappers[2];
    lua_State *states[2];
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(heaps[i]);
        wrappers[i].function = jemalloc_lua_heap_alloc(heaps[i].get());
        wrappers[i].ud = heaps[i].get();
        states[i] = lua_newstate(Wrapper::alloc, &wrappers[i]);
        ASSERT_NE(nullptr, states[i]);
    }
    EXPECT_EQ(0, jemalloc_lua_set_limit(lua_newthread(states[1]), 32 * M));
    EXPECT_EQ(0u, stats(states[0]).limit);
    EXPECT_EQ(32 * M, stats(states[1]).limit);
    for (lua_State *each : states) lua_close(each);
}

TEST(StatesOfOthers, AreNotFound) {
    const State one = test::state("");
    ASSERT_TRUE(one);
    lua_State *built_in = luaL_newstate();
    EXPECT_EQ(EINVAL, jemalloc_lua_set_limit(built_in, 16 * M));
    EXPECT_EQ(EINVAL, jemalloc_lua_set_limit(lua_newthread(built_in), 16 * M));
    lua_close(built_in);

    Wrapper wrapper;
    wrapper.function = [](void *, void *block, std::size_t, std::size_t size) -> void * {
        if (size != 0) return std::realloc(block, size);
        std::free(block);
        return nullptr;
    };
    lua_State *foreign = lua_newstate(Wrapper::alloc, &wrapper);
    ASSERT_NE(nullptr, foreign);
    EXPECT_EQ(EINVAL, jemalloc_lua_set_limit(foreign, 16 * M));
    lua_close(foreign);
}

TEST_P(States, BeginWithoutLibraries) {
    const State state = test::bare_state(conf());
    ASSERT_NE(nullptr, state);
    EXPECT_EQ(0, lua_gettop(state.get()));
    lua_getfield(state.get(), LUA_GLOBALSINDEX, "print");
    EXPECT_TRUE(lua_isnil(state.get(), -1));
}

TEST_P(States, HaveAPanicFunction) {
    const State state = test::bare_state(conf());
    EXPECT_NE(nullptr, lua_atpanic(state.get(), nullptr));
}

TEST_P(States, RunProgramsAsLuasOwnDo) {
    lua_State *plain = luaL_newstate();
    luaL_openlibs(plain);
    const double expected = result_of(plain);
    lua_close(plain);
    const State ours = state();
    EXPECT_EQ(expected, result_of(ours.get()));
}

TEST_P(States, ShareNoValues) {
    const State a = state();
    const State b = state();
    EXPECT_EQ("", run(a.get(), "x = 'of a'"));
    EXPECT_EQ("", run(b.get(), "assert(x == nil) x = 'of b'"));
    EXPECT_EQ("", run(a.get(), "assert(x == 'of a')"));
}

TEST_P(States, OutliveEachOther) {
    const char *fill = "t = {} for i = 1, 20000 do t[i] = {i, tostring(i)} end";
    const char *check = "for i = 1, 20000 do assert(t[i][1] == i and t[i][2] == tostring(i)) end";
    State a = state();
    const State b = state();
    EXPECT_EQ("", run(a.get(), fill));
    EXPECT_EQ("", run(b.get(), fill));
    a.reset();
    EXPECT_EQ("", run(b.get(), check));
    const State c = state();
    EXPECT_EQ("", run(c.get(), fill));
    EXPECT_EQ("", run(b.get(), check));
    EXPECT_EQ("", run(c.get(), check));
}

// Records where a heap's blocks are.
struct Watched {
    lua_Alloc alloc;
    void *heap;
    std::set<std::pair<const char *, const char *>> blocks;

    static void *call(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
        auto *self = static_cast<Watched *>(ud);
        void *block = self->alloc(self->heap, ptr, old_size, new_size);
        const auto *old_start = static_cast<const char *>(ptr);
        if (ptr != nullptr && (block != nullptr || new_size == 0)) {
            self->blocks.erase({old_start, old_start + old_size});
        }
        if (block != nullptr) {
            const auto *start = static_cast<const char *>(block);
            self->blocks.insert({start, start + new_size});
        }
        return block;
    }
};

TEST_P(States, ShareNoMemory) {
    const test::Heap heaps[] = {heap(), heap()};
    Watched watched[2];
    lua_State *states[2];
    for (int i = 0; i < 2; ++i) {
        watched[i] = {jemalloc_lua_heap_alloc(heaps[i].get()), heaps[i].get(), {}};
        states[i] = lua_newstate(Watched::call, &watched[i]);
        ASSERT_NE(nullptr, states[i]);
        ASSERT_TRUE(test::open_libraries(states[i]));
    }
    for (int round = 0; round < 5; ++round) {
        for (lua_State *L : states) result_of(L);
        auto all = watched[0].blocks;
        all.insert(watched[1].blocks.begin(), watched[1].blocks.end());
        ASSERT_EQ(watched[0].blocks.size() + watched[1].blocks.size(), all.size());
        const char *end = nullptr;
        for (const auto &[start, stop] : all) {
            ASSERT_LE(end, start) << "two blocks overlap";
            end = stop;
        }
    }
    for (lua_State *L : states) lua_close(L);
    EXPECT_TRUE(watched[0].blocks.empty());
    EXPECT_TRUE(watched[1].blocks.empty());
}

// ---- Closing

int finalizers_run = 0;

TEST_P(States, RunFinalizersWhenTheyAreClosed) {
    for (void (*close)(lua_State *) : {static_cast<void (*)(lua_State *)>(lua_close), jemalloc_lua_close}) {
        finalizers_run = 0;
        State one = state();
        lua_pushcfunction(one.get(), [](lua_State *) {
            ++finalizers_run;
            return 0;
        });
        lua_setfield(one.get(), LUA_GLOBALSINDEX, "count");
        EXPECT_EQ("", run(one.get(), R"(
            kept = {}
            for i = 1, 100 do
                kept[i] = newproxy(true)
                -- a finalizer may allocate, and free what it allocated
                getmetatable(kept[i]).__gc = function() local t = {('x'):rep(5000)} t = nil collectgarbage() count() end
            end)"));
        close(one.release());
        EXPECT_EQ(100, finalizers_run);
    }
}

TEST_P(States, CloseWhileTheCollectorIsPushed) {
    for (const char *scrub : {"false", "true"}) {
        for (void (*close)(lua_State *) :
             {static_cast<void (*)(lua_State *)>(lua_close), jemalloc_lua_close}) {
            State one = state(std::string("soft_limit:1,scrub:") + scrub);
            EXPECT_EQ("", run(one.get(), "kept = {} for i = 1, 20000 do kept[i] = {i, 'x' .. i} end"));
            EXPECT_GT(stats(one.get()).footprint, stats(one.get()).soft_limit);
            close(one.release());
        }
    }
}

TEST(Close, ClosesAStateThatIsNotOurs) {
    finalizers_run = 0;
    lua_State *foreign = luaL_newstate();
    luaL_openlibs(foreign);
    lua_pushcfunction(foreign, [](lua_State *) {
        ++finalizers_run;
        return 0;
    });
    lua_setfield(foreign, LUA_GLOBALSINDEX, "count");
    EXPECT_EQ("", run(foreign, "p = newproxy(true) getmetatable(p).__gc = count"));
    jemalloc_lua_close(foreign);
    EXPECT_EQ(1, finalizers_run);
}

TEST(Newstate, MakesAStateWithTheDefaults) {
    const State one(jemalloc_lua_newstate());
    ASSERT_NE(nullptr, one);
    ASSERT_TRUE(test::open_libraries(one.get()));
    result_of(one.get());
    EXPECT_EQ(static_cast<unsigned>(test::options("").front), stats(one.get()).front);
}

// ---- Arenas

TEST_P(States, SayWhichArenaTheyUse) {
    const State one = state();
    EXPECT_EQ(arena_of(one), stats(one.get()).arena);
    EXPECT_EQ(static_cast<unsigned>(test::options(conf()).front), stats(one.get()).front);
    EXPECT_EQ(0u, stats(one.get()).fallbacks);
}

class Fronts : public testing::TestWithParam<std::string> {
  protected:
    std::string conf(const std::string &more) const { return "front:" + GetParam() + "," + more; }
};
INSTANTIATE_TEST_SUITE_P(, Fronts, testing::Values("slab", "direct", "checked"),
                         [](const auto &info) { return info.param; });

TEST_P(Fronts, WithArenaOwnShareTheirArenaWithNoOne) {
    const State others[] = {test::state(conf("arena:shared")), test::state(conf("arena:shared")),
                            test::state(conf("arena:thread")), test::state(conf("arena:auto"))};
    const State owners[] = {test::state(conf("arena:own")), test::state(conf("arena:own"))};
    std::set<unsigned> indices;
    for (const State &one : others) indices.insert(arena_of(one));
    for (const State &one : owners) EXPECT_TRUE(indices.insert(arena_of(one)).second) << arena_of(one);
}

TEST_P(Fronts, WithArenaOwnReuseArenasOfClosedStates) {
    std::set<unsigned> indices;
    for (int i = 0; i < 50; ++i) indices.insert(arena_of(test::state(conf("arena:own"))));
    EXPECT_EQ(1u, indices.size());
}

TEST_P(Fronts, WithArenaSharedUseFewArenas) {
    std::set<unsigned> indices;
    std::vector<State> states;
    for (int i = 0; i < 500; ++i) states.push_back(test::bare_state(conf("arena:shared")));
    for (const State &one : states) indices.insert(arena_of(one));
    EXPECT_LE(indices.size(), 64u);
}

TEST_P(Fronts, WithArenaThreadUseTheThreadsArena) {
    EXPECT_EQ(arena_of(test::state(conf("arena:thread"))), arena_of(test::state(conf("arena:thread"))));
    const State with_its_tcache = test::state(conf("arena:thread,tcache:thread"));
    result_of(with_its_tcache.get());
}

TEST_P(Fronts, WithArenaAutoTakeOneOfTheirOwnWhenTheyGrow) {
    const State small = test::state(conf("arena:auto"));
    const State big = test::state(conf("arena:auto,arena_threshold:1M"));
    const unsigned at_first = arena_of(big);
    EXPECT_EQ("", run(big.get(), "t = {} for i = 1, 50000 do t[i] = {i} end"));
    const unsigned later = arena_of(big);
    EXPECT_NE(at_first, later);
    EXPECT_NE(arena_of(small), later);
    EXPECT_EQ("", run(big.get(), "for i = 1, 50000 do assert(t[i][1] == i) end"));
    EXPECT_EQ("", run(big.get(), "for i = 1, 100000 do t[i] = {i} end"));
    EXPECT_EQ(later, arena_of(big)) << "one is enough";
}

// It takes nothing from there any more, so nothing that it has freed there may stay.
TEST(ArenaAuto, LeavesNothingUnusedWhereItBegan) {
    const State one = test::state("arena:auto,arena_threshold:4M");
    const unsigned home = arena_of(one);
    const auto make = [&](int from, int to) {
        return run(
            one.get(),
            "t = t or {} for i = " + std::to_string(from) + ", " + std::to_string(to) +
                " do t[i] = { ('x'):rep(50000 + i), { i } } for j = 1, 50 do t[i][2][j] = { j } end end");
    };
    EXPECT_EQ("", make(1, 40));
    EXPECT_EQ(home, arena_of(one));
    EXPECT_EQ("", make(41, 100));
    EXPECT_NE(home, arena_of(one));
    EXPECT_EQ("", run(one.get(), "t = nil collectgarbage() collectgarbage()"));
    EXPECT_LT(jemalloc_lua::dirty_bytes(home), 1 * M);
}

TEST_P(Fronts, WithAnIndexUseThatArena) {
    const unsigned index = arena_of(test::state(conf("arena:shared")));
    const State one = test::state(conf("arena:" + std::to_string(index)));
    EXPECT_EQ(index, arena_of(one));
    result_of(one.get());
    const State arena_0 = test::state(conf("arena:0"));
    EXPECT_EQ(0u, arena_of(arena_0));
}

TEST_P(Fronts, WithAnIndexThatDoesNotExistAreRefused) {
    const jemalloc_lua_options options = test::options(conf("arena:4094"));
    errno = 0;
    EXPECT_EQ(nullptr, jemalloc_lua_newstate_opts(&options));
    EXPECT_EQ(EINVAL, errno);
    errno = 0;
    EXPECT_EQ(nullptr, jemalloc_lua_heap_create(&options));
    EXPECT_EQ(EINVAL, errno);
}

void expect_refused(const std::string &conf) {
    const jemalloc_lua_options options = test::options(conf);
    errno = 0;
    EXPECT_EQ(nullptr, State(jemalloc_lua_newstate_opts(&options))) << conf;
    EXPECT_EQ(EINVAL, errno);
}

// It is emptied when that heap ends.
TEST_P(Fronts, WithTheIndexOfAnothersOwnArenaAreRefused) {
    std::string index;
    {
        const State owner = test::state(conf("arena:own"));
        index = std::to_string(arena_of(owner));
        expect_refused(conf("arena:" + index));
    }
    expect_refused(conf("arena:" + index));
}

// jemalloc would make it anew, and give its index to the next that creates one as well.
TEST_P(Fronts, WithTheIndexOfADestroyedArenaAreRefused) {
    unsigned index = 0;
    std::size_t size = sizeof index;
    ASSERT_EQ(0, jemalloc_lua::je::mallctl("arenas.create", &index, &size, nullptr, 0));
    const std::string name = std::to_string(index);
    test::state(conf("arena:" + name));
    const std::string destroy = "arena." + name + ".destroy";
    ASSERT_EQ(0, jemalloc_lua::je::mallctl(destroy.c_str(), nullptr, nullptr, nullptr, 0));
    expect_refused(conf("arena:" + name));
}

TEST_P(Fronts, RunWithEachOption) {
    for (const char *more : {"tcache:none",
                             "tcache:own",
                             "arena_threshold:0",
                             "arena_threshold:1G",
                             "retain:0",
                             "retain:10000",
                             "nursery:16K",
                             "nursery:100000",
                             "nursery:1M",
                             "slab:16K",
                             "slab:1M",
                             "nursery:16K,slab:1M",
                             "small_max:528",
                             "small_max:768",
                             "small_max:1008",
                             "huge_min:64K",
                             "huge_min:1G",
                             "dirty_decay_ms:0,arena:own",
                             "muzzy_decay_ms:-1,arena:own",
                             "thp:always",
                             "thp:never",
                             "scrub:true",
                             "scrub:true,arena:own",
                             "scrub:true,small_max:528,slab:16K,nursery:16K"}) {
        const State one = test::state(conf(more));
        ASSERT_NE(nullptr, one) << more;
        EXPECT_EQ(result_of(one.get()), result_of(one.get())) << more;
        EXPECT_EQ("", run(one.get(), "local s = 'x' for i = 1, 22 do s = s .. s end")) << more;
    }
}

}  // namespace
