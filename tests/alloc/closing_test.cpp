// jemalloc_lua_close() of states that are large enough to have an arena: objects need not be visited, and
// whatever else lua_close() sees to is seen to.

#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "luajit/sweep_cut.h"
#include "support.h"

namespace {

using test::FrontAndArena;
using test::run;
using test::State;

// Some 8 MB of all kinds of objects, made in both halves: as long as the state is small, and when it has
// grown. Values of the first half have grown since.
constexpr const char *fill = R"(
    local ffi = require 'ffi'
    kept = {}
    local function keep(value) kept[#kept + 1] = value end
    arrays = {}
    for i = 1, 20 do arrays[i] = {} for j = 1, 300 do arrays[i][j] = j end end
    for round = 1, 2 do
        for i = 1, 5000 do keep({ id = i, 'of', round }) end
        for i = 1, 20 do keep(('long'):rep(500) .. i .. round) end
        for i = 1, 20 do keep(ffi.new('char[?]', 3000)) end
        for i = 1, 200 do
            local co = coroutine.wrap(function(...) while true do keep(function() return i end) coroutine.yield() end end)
            co() keep(co)
        end
        for i = 1, 200 do keep(loadstring('local a = ' .. i .. ' return function(x) return x + a end')()) end
        for i = 1, 200 do keep(newproxy(true)) end
        local sum = 0
        for i = 1, 1000 do sum = sum + kept[i % 100 + 1].id end
        for i = 1, 30000 do keep({ i }) end
    end
    for i = 1, 20 do for j = 300, 1000 + 200 * i do arrays[i][j] = j end end
    if not pcall(ffi.cast, 'int (*)(int)', nil) then return end
    local ok, callback = pcall(ffi.cast, 'int (*)(int)', function(x) return x + 1 end)
    if ok then assert(callback(1) == 2) keep(callback) end)";

std::vector<double> log_of_finalizers;

void add_log(lua_State *L) {
    lua_pushcfunction(L, [](lua_State *state) {
        log_of_finalizers.push_back(lua_tonumber(state, 1));
        return 0;
    });
    lua_setfield(L, LUA_GLOBALSINDEX, "log");
}

// Finalizers of userdata and of cdata, which make new ones and much more, and collect.
constexpr const char *finalizers = R"(
    local ffi = require 'ffi'
    local function finalize(id, f) local p = newproxy(true) getmetatable(p).__gc = f keep_alive[id] = p end
    keep_alive = {}
    for i = 1, 300 do finalize(i, function() log(i) end) end
    finalize(301, function()
        log(301)
        local made = {}
        for i = 1, 20000 do made[i] = { i, tostring(i) } end
        collectgarbage()
        for i = 1, 20000 do assert(made[i][1] == i and made[i][2] == tostring(i)) end
        finalize(302, function() collectgarbage() log(302) end)
        made_at_end = made
    end)
    finalize(303, function()
        -- What the library holds on to must not be in reach.
        local registry = debug.getregistry()
        for key in pairs(registry) do
            if type(key) ~= 'number' and key ~= '_LOADED' then registry[key] = nil end
        end
        collectgarbage() collectgarbage()
        for i = 1, 20000 do keep_alive[-i] = { i } end
        collectgarbage()
        log(#kept)
    end)
    finalize(304, function() log(304) error('that no one sees') end)
    for i = 401, 450 do keep_alive[i] = ffi.gc(ffi.new('int[1]', i), function(p) log(p[0]) end) end)";

std::vector<double> finalized(lua_State *L, void (*close)(lua_State *)) {
    add_log(L);
    EXPECT_EQ("", run(L, fill));
    EXPECT_EQ("", run(L, finalizers));
    log_of_finalizers.clear();
    close(L);
    return log_of_finalizers;
}

// Mappings of code that are of no file: those of traces and of callbacks.
std::size_t code_mappings() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);) {
        if (line.find(" r-xp 00000000 00:00 0") != std::string::npos) ++count;
    }
    return count;
}

class Closing : public FrontAndArena {};
ON_EVERY_FRONT_AND_ARENA(Closing);

TEST_P(Closing, RunsAllFinalizersInTheOrderOfLuaClose) {
    lua_State *plain = luaL_newstate();
    luaL_openlibs(plain);
    std::vector<double> expected = finalized(plain, lua_close);
    EXPECT_EQ(305u + 50u - 1u, expected.size());
    std::vector<double> found = finalized(state().release(), jemalloc_lua_close);
    // Finalizers of cdata run in the order of a table with addresses for keys: sorted, behind the others.
    const auto sort_cdata = [](std::vector<double> &log) {
        std::vector<double> others, cdata;
        for (const double id : log) (id > 400 && id < 451 ? cdata : others).push_back(id);
        std::sort(cdata.begin(), cdata.end());
        others.insert(others.end(), cdata.begin(), cdata.end());
        log = others;
    };
    sort_cdata(expected);
    sort_cdata(found);
    EXPECT_EQ(expected, found);
}

TEST_P(Closing, GivesBackAllThatLuaCloseDoes) {
    const auto cycle = [&](void (*close)(lua_State *)) {
        lua_State *L = state().release();
        EXPECT_EQ("", run(L, fill));
        close(L);
    };
    for (int i = 0; i < 3; ++i) cycle(jemalloc_lua_close);
    cycle(lua_close);
    const std::size_t bytes = test::jemalloc_bytes();
    const std::size_t code = code_mappings();
    for (int i = 0; i < 6; ++i) cycle(jemalloc_lua_close);
    for (int i = 0; i < 3; ++i) cycle(lua_close);
    test::expect_jemalloc_bytes(bytes);
    EXPECT_EQ(code, code_mappings()) << "code of traces or of callbacks is left mapped";
}

// On arena:auto, one that has not left the shared arena.
TEST_P(Closing, GivesBackAllOfASmallState) {
    const auto cycle = [&] {
        lua_State *L = state().release();
        EXPECT_EQ("", run(L,
                          "kept = {} for i = 1, 40 do kept[i] = { ('x'):rep(600 * i) .. i, {}, {} }"
                          " for j = 1, 10 * i do kept[i][2][j] = { j } kept[i][3]['k' .. j] = j end end"));
        jemalloc_lua_close(L);
    };
    for (int i = 0; i < 3; ++i) cycle();
    const std::size_t bytes = test::jemalloc_bytes();
    for (int i = 0; i < 20; ++i) cycle();
    test::expect_jemalloc_bytes(bytes);
}

TEST_P(Closing, WorksAtTheLimit) {
    const std::size_t before = [&] {
        state().reset();
        return test::jemalloc_bytes();
    }();
    for (int i = 0; i < 3; ++i) {
        State one = state("limit:" + std::to_string(4000 + 370 * i) + "K");
        EXPECT_NE("", run(one.get(), fill + std::string(" while true do keep({}) end")));
        EXPECT_NE("", run(one.get(), "kept = {} while true do kept[#kept + 1] = {} end"));
        one.reset();
    }
    test::expect_jemalloc_bytes(before);
}

std::jmp_buf after_panic;

// On a thread that has no handler further up: one that takes all exceptions, as the test's runner is, takes
// Lua's errors too.
void *raise_unprotected(void *state) {
    auto *L = static_cast<lua_State *>(state);
    lua_atpanic(L, [](lua_State *) -> int { std::longjmp(after_panic, 1); });
    static bool jumped;
    jumped = false;
    if (setjmp(after_panic) == 0) {
        lua_getfield(L, LUA_GLOBALSINDEX, "error");
        lua_pushliteral(L, "that no one catches");
        lua_call(L, 1, 0);
    } else {
        jumped = true;
    }
    return &jumped;
}

TEST_P(Closing, WorksAfterAPanic) {
    State one = state();
    EXPECT_EQ("", run(one.get(), fill));
    pthread_t thread;
    void *jumped = nullptr;
    ASSERT_EQ(0, pthread_create(&thread, nullptr, raise_unprotected, one.get()));
    ASSERT_EQ(0, pthread_join(thread, &jumped));
    EXPECT_TRUE(*static_cast<bool *>(jumped));
    one.reset();
}

TEST_P(Closing, TakesACoroutineForItsState) {
    State one = state();
    EXPECT_EQ("", run(one.get(), fill));
    add_log(one.get());
    EXPECT_EQ("", run(one.get(), "p = newproxy(true) getmetatable(p).__gc = function() log(1) end"));
    lua_State *co = lua_newthread(one.get());
    log_of_finalizers.clear();
    (void)one.release();
    jemalloc_lua_close(co);
    EXPECT_EQ(std::vector<double>{1}, log_of_finalizers);
}

TEST_P(Closing, CallsNoHandlerOfTheCompiler) {
    State one = state();
    add_log(one.get());
    EXPECT_EQ("", run(one.get(), fill));
    EXPECT_EQ("", run(one.get(), "jit.attach(function(what) log(1) end, 'trace')"));
    log_of_finalizers.clear();
    one.reset();
    EXPECT_TRUE(log_of_finalizers.empty());
}

// ---- The cut itself, seen by an allocator that counts

struct Counter {
    jemalloc_lua::luajit::SweepCut cut;
    void *state_block = nullptr;
    std::size_t state_size = 0;
    std::size_t frees = 0;
    std::vector<void *> left;  // what is not freed when the walk is cut short

    static void *alloc(void *ud, void *ptr, std::size_t, std::size_t new_size) {
        auto *self = static_cast<Counter *>(ud);
        if (new_size == 0) {
            ++self->frees;
            if (self->cut.is_sentinel(ptr)) self->cut.cut();
            return nullptr;  // `left` has it
        }
        void *block = std::malloc(new_size);
        if (self->state_block == nullptr) {
            self->state_block = block;
            self->state_size = new_size;
        }
        self->left.push_back(block);
        if (ptr != nullptr) std::memcpy(block, ptr, std::min(new_size, malloc_usable_size(ptr)));
        return block;
    }
    ~Counter() {
        for (void *block : left) std::free(block);
    }
};

// The frees of lua_close() with a cut that is shown so much of the state's block; 0: without.
std::size_t frees_of_close(std::size_t shown) {
    Counter counter;
    lua_State *L = lua_newstate(Counter::alloc, &counter);
    EXPECT_NE(nullptr, L);
    EXPECT_EQ("", run(L, "kept = {} for i = 1, 30000 do kept[i] = {i} end"));
    if (shown != 0) counter.cut.prepare(L, counter.state_block, std::min(shown, counter.state_size));
    counter.frees = 0;
    lua_close(L);
    return counter.frees;
}

TEST(SweepCut, LeavesObjectsUnvisited) {
    EXPECT_GT(frees_of_close(0), 30000u);
    EXPECT_LT(frees_of_close(SIZE_MAX), 1000u);
}

TEST(SweepCut, IsNotMadeWhereLuaJITIsNotAsItIsKnown) {
    // The collector's count is not found in so little of the state's block.
    EXPECT_GT(frees_of_close(64), 30000u);
}

}  // namespace
