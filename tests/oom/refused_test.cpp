// What a heap owes to LuaJIT after it has refused a request.

#include <string>
#include <vector>

#include "support.h"

namespace {

using test::K;
using test::M;

class Refused : public test::FrontAndArena {};
ON_EVERY_FRONT_AND_ARENA(Refused);

// A closure that could not get one of its upvalues is freed as one without any (lj_func_newL_gc() in
// lj_func.c).
void expect_closures_taken_back(const std::string &conf) {
    const std::size_t before = test::jemalloc_bytes();
    {
        const test::State one = test::state(conf);
        void *heap = nullptr;
        const lua_Alloc alloc = lua_getallocf(one.get(), &heap);
        jemalloc_lua_trim(one.get());
        const std::size_t footprint = test::stats(one.get()).footprint;
        std::vector<void *> blocks(1000);
        for (void *&block : blocks) {
            block = alloc(heap, nullptr, 0, 40 + 8 * 60);
            ASSERT_NE(nullptr, block);
        }
        ASSERT_EQ(nullptr, alloc(heap, nullptr, 0, 8 * M));
        for (void *block : blocks) alloc(heap, block, 40, 0);
        for (void *&block : blocks) {  // no two of these are one
            block = alloc(heap, nullptr, 0, 40);
            ASSERT_NE(nullptr, block);
            *static_cast<void **>(block) = block;
        }
        for (void *block : blocks) {
            ASSERT_EQ(block, *static_cast<void **>(block));
            alloc(heap, block, 40, 0);
        }
        jemalloc_lua_trim(one.get());
        EXPECT_LE(test::stats(one.get()).footprint, footprint + 64 * K);
    }
    test::expect_jemalloc_bytes(before);
}

TEST_P(Refused, TakesBackAClosureThatLuaJITSaysIsSmallerThanItIs) {
    expect_closures_taken_back(conf("limit:4M"));
}

TEST(RefusedSmall, TakesBackAClosureThatLuaJITSaysIsSmallerThanItIs) {
    expect_closures_taken_back("small_max:528,limit:4M");
    expect_closures_taken_back("harden:true,small_max:528,limit:4M");
}

TEST(RefusedHardened, TakesBackAClosureThatLuaJITSaysIsSmallerThanItIs) {
    expect_closures_taken_back("harden:true,limit:4M");
    expect_closures_taken_back("harden:true,scrub:true,limit:4M");
}

}  // namespace
