// What all tests of the allocator share: states and heaps that close themselves, Lua programs in one call,
// memory as the system sees it, and the suite FrontAndArena, whose tests run once for each front end on each
// kind of arena; the hardened slab is a front end of its own here.
#pragma once

#include <gtest/gtest.h>
#include <jemalloc_lua.h>
#include <lua.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <tuple>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JEMALLOC_LUA_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define JEMALLOC_LUA_TEST_SANITIZED 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define JEMALLOC_LUA_TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define JEMALLOC_LUA_TEST_TSAN 1
#endif
#endif

namespace test {

#ifdef JEMALLOC_LUA_TEST_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// ThreadSanitizer's shadow is part of a process's memory, and death tests end without a word under it.
#ifdef JEMALLOC_LUA_TEST_TSAN
inline constexpr bool thread_sanitized = true;
#else
inline constexpr bool thread_sanitized = false;
#endif

inline constexpr std::size_t K = 1024;
inline constexpr std::size_t M = K * K;

struct CloseState {
    void operator()(lua_State *L) const { jemalloc_lua_close(L); }
};
using State = std::unique_ptr<lua_State, CloseState>;

struct DestroyHeap {
    void operator()(jemalloc_lua_heap *heap) const { jemalloc_lua_heap_destroy(heap); }
};
using Heap = std::unique_ptr<jemalloc_lua_heap, DestroyHeap>;

// The defaults with `conf` read over them; a conf that is refused fails the test.
jemalloc_lua_options options(const std::string &conf);

// A state without libraries, and one with all of them.
State bare_state(const std::string &conf);
State state(const std::string &conf);

// luaL_openlibs() where an error may be raised: true if the libraries are open.
bool open_libraries(lua_State *L);

// Runs a program. Returns "" or the error message.
std::string run(lua_State *L, const std::string &program);

// The number that an expression comes to.
double number(lua_State *L, const std::string &expression);

jemalloc_lua_stats stats(lua_State *L);

// collectgarbage("count") to the byte.
std::size_t lua_bytes(lua_State *L);

// A full collection, twice, so that what finalizers let go of is gone as well.
void collect(lua_State *L);

// Resident memory of this process.
std::size_t resident_bytes();

// Bytes that the library's jemalloc has handed out and not got back. Exact, as nothing else in the process
// uses the bundled jemalloc; the system's serves the test's own malloc as well.
std::size_t jemalloc_bytes();

// Fails the test where that has grown; what caches hold may make it fall.
void expect_jemalloc_bytes(std::size_t before);

using FrontArena = std::tuple<std::string, std::string>;

class FrontAndArena : public testing::TestWithParam<FrontArena> {
  protected:
    std::string front() const { return std::get<0>(GetParam()); }
    std::string arena() const { return std::get<1>(GetParam()); }
    // "front:x,arena:y" and more pairs.
    std::string conf(const std::string &more = "") const;
    State state(const std::string &more = "") const { return test::state(conf(more)); }
    Heap heap(const std::string &more = "") const;
};

std::string name_of(const testing::TestParamInfo<FrontArena> &info);

}  // namespace test

// Runs the tests of a suite that derives from FrontAndArena on all of them.
#define ON_EVERY_FRONT_AND_ARENA(Suite)                                                       \
    INSTANTIATE_TEST_SUITE_P(                                                                 \
        , Suite,                                                                              \
        testing::Combine(testing::Values<std::string>("slab", "harden", "direct", "checked"), \
                         testing::Values<std::string>("auto", "own", "shared", "thread")),    \
        test::name_of)
