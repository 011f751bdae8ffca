// Blocks that shrink while the system has no memory at all: LuaJIT does not expect that to fail. jemalloc's
// mallocx and xallocx are the linker's --wrap of them, and refuse when told to.

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

#include "model.h"

namespace {

bool no_memory = false;
std::uint64_t refused = 0;

}  // namespace

extern "C" {

void *__real_je_mallocx(std::size_t size, int flags);
void *__wrap_je_mallocx(std::size_t size, int flags) {
    if (no_memory) ++refused;
    return no_memory ? nullptr : __real_je_mallocx(size, flags);
}

// A smaller piece of a region takes a record for what is left over: that fails as well.
std::size_t __real_je_xallocx(void *ptr, std::size_t size, std::size_t extra, int flags);
std::size_t __wrap_je_xallocx(void *ptr, std::size_t size, std::size_t extra, int flags) {
    return no_memory ? SIZE_MAX : __real_je_xallocx(ptr, size, extra, flags);
}
}

namespace {

constexpr std::size_t K = 1024;
constexpr std::size_t M = K * K;

class Shrink : public testing::TestWithParam<const char *> {
  protected:
    Shrink() {
        jemalloc_lua_options options;
        jemalloc_lua_options_init(&options);
        EXPECT_EQ(0, jemalloc_lua_options_parse(&options, GetParam(), nullptr, 0));
        heap_ = jemalloc_lua_heap_create(&options);
    }
    ~Shrink() override { jemalloc_lua_heap_destroy(heap_); }
    Shrink(const Shrink &) = delete;
    Shrink &operator=(const Shrink &) = delete;

    jemalloc_lua_heap *heap_;
};

INSTANTIATE_TEST_SUITE_P(Fronts, Shrink,
                         testing::Values("", "scrub:true", "harden:true", "harden:true,scrub:true",
                                         "small_max:528,nursery:16K", "huge_min:64K,arena:own",
                                         "front:direct", "front:checked"));

std::size_t some_size(std::mt19937 &random) {
    const std::size_t most = std::size_t{16} << random() % 17;
    return random() % most + 1;
}

TEST_P(Shrink, NeverFailsWhereAnySmallBlockIsFree) {
    test::Model model(heap_, M);
    std::mt19937 random(7);
    for (int round = 0; round < 300; ++round) {
        for (int i = 0; i < 24; ++i) {
            if (model.blocks() > 0 && random() % 2 == 0) {
                model.resize(random() % model.blocks(), some_size(random));
            } else {
                model.obtain(some_size(random), 0);
            }
        }
        // Small ones of the largest class, which go again: more than any one slab of 32 KiB has.
        const std::size_t others = model.blocks();
        for (int i = 0; i < 600; ++i) model.obtain(i % 2 == 0 ? 64 : K, 0);
        while (model.blocks() > others) model.free(model.blocks() - 1);

        no_memory = true;
        for (int i = 0; i < 8; ++i) {
            const std::size_t block = random() % model.blocks();
            model.resize(block, random() % model.size_of(block) + 1);
        }
        no_memory = false;
        model.check_account();
        while (model.blocks() > 64) model.free(random() % model.blocks());
        ASSERT_EQ("", model.problem()) << "round " << round;
    }
    EXPECT_GT(refused, 0u);
    model.free_all();
    model.trim();
    model.check_account();
    EXPECT_EQ("", model.problem());
}

}  // namespace
