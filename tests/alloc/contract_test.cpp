// What Lua asks of a lua_Alloc (Lua 5.1 manual, section 3.7), called as Lua calls it. And heaps as objects of
// their own, for hosts that call lua_newstate() themselves.

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "support.h"
#include "system/jemalloc.h"

namespace {

using test::K;
using test::M;

struct Block {
    unsigned char *ptr = nullptr;
    std::size_t size = 0;
    unsigned char seed = 0;
};

// A heap with a state in it, which tells its statistics, and its allocator function with the checks that
// hold for each call.
class Contract : public test::FrontAndArena {
  protected:
    void make(const std::string &more = "") {
        heap_ = heap(more);
        alloc_ = jemalloc_lua_heap_alloc(heap_.get());
        ASSERT_NE(nullptr, alloc_);
        L_ = lua_newstate(alloc_, heap_.get());
        ASSERT_NE(nullptr, L_);
    }
    void SetUp() override { make(); }
    void TearDown() override {
        if (L_ != nullptr) lua_close(L_);
    }

    std::size_t footprint() { return test::stats(L_).footprint; }

    Block get(std::size_t size) {
        Block block{static_cast<unsigned char *>(alloc_(heap_.get(), nullptr, 0, size)), size, ++seed_};
        if (block.ptr != nullptr) {
            EXPECT_EQ(0u, reinterpret_cast<std::uintptr_t>(block.ptr) % 16) << size;
            std::memset(block.ptr, block.seed, size);
        }
        return block;
    }

    bool intact(const Block &block, std::size_t size) {
        return std::all_of(block.ptr, block.ptr + size, [&](unsigned char c) { return c == block.seed; });
    }

    // False where memory does not suffice; the block is as before then.
    bool resize(Block &block, std::size_t size) {
        EXPECT_TRUE(intact(block, block.size));
        void *ptr = alloc_(heap_.get(), block.ptr, block.size, size);
        if (ptr == nullptr) {
            EXPECT_TRUE(intact(block, block.size));
            return false;
        }
        block.ptr = static_cast<unsigned char *>(ptr);
        EXPECT_EQ(0u, reinterpret_cast<std::uintptr_t>(ptr) % 16) << block.size << " to " << size;
        EXPECT_TRUE(intact(block, std::min(block.size, size))) << block.size << " to " << size;
        block.size = size;
        std::memset(ptr, block.seed, size);
        return true;
    }

    void drop(Block &block) {
        if (block.ptr == nullptr) return;
        EXPECT_TRUE(intact(block, block.size));
        EXPECT_EQ(nullptr, alloc_(heap_.get(), block.ptr, block.size, 0));
        block.ptr = nullptr;
    }

    test::Heap heap_;
    lua_Alloc alloc_ = nullptr;
    lua_State *L_ = nullptr;
    unsigned char seed_ = 0;
};
ON_EVERY_FRONT_AND_ARENA(Contract);

// Lua 5.2 and later pass the kind of object (LUA_TSTRING and so on) as the size of a block that is not there.
TEST_P(Contract, TheOldSizeOfNothingMeansNothing) {
    for (const std::size_t kind : {0u, 1u, 4u, 8u, 9u, 4096u, ~0u}) {
        EXPECT_EQ(nullptr, alloc_(heap_.get(), nullptr, kind, 0));
        void *ptr = alloc_(heap_.get(), nullptr, kind, 40);
        ASSERT_NE(nullptr, ptr);
        alloc_(heap_.get(), ptr, 40, 0);
    }
}

TEST_P(Contract, BlocksOfEverySizeAreAlignedWritableAndApart) {
    std::vector<Block> blocks;
    for (std::size_t size = 1; size <= 4 * K; ++size) blocks.push_back(get(size));
    for (std::size_t size = 4 * K; size <= 4 * M; size += size / 7) blocks.push_back(get(size));
    for (const Block &block : blocks) ASSERT_TRUE(intact(block, block.size)) << block.size;
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
    for (Block &block : blocks) drop(block);
}

TEST_P(Contract, ResizingKeepsContentsBetweenAnyTwoSmallSizes) {
    const std::size_t step = test::sanitized ? 61 : 17;
    for (std::size_t from = 1; from <= 4 * K; from += step) {
        Block block = get(from);
        for (std::size_t to = 1 + from % step; to <= 4 * K; to += 5 * step) {
            ASSERT_TRUE(resize(block, to));
            ASSERT_TRUE(resize(block, from));
        }
        drop(block);
    }
}

TEST_P(Contract, ABlockThatDoublesKeepsItsContents) {
    for (int round = 0; round < 3; ++round) {
        Block array = get(16);
        Block beside = get(100);
        while (array.size < 32 * M) ASSERT_TRUE(resize(array, array.size * 2));
        while (array.size > 16) ASSERT_TRUE(resize(array, array.size / 2));
        drop(beside);
        drop(array);
    }
}

TEST_P(Contract, ShrinkingNeverFailsNotEvenAtTheLimit) {
    std::mt19937 random(3);
    std::vector<Block> blocks;
    for (int i = 0; i < 3000; ++i) blocks.push_back(get(1 + random() % (std::size_t{1} << random() % 17)));
    ASSERT_EQ(0, jemalloc_lua_set_limit(L_, 1));
    EXPECT_EQ(nullptr, get(32 * M).ptr);
    for (Block &block : blocks) {
        while (block.size > 1) {
            ASSERT_TRUE(resize(block, 1 + random() % (block.size - 1) / 2));
        }
    }
    jemalloc_lua_set_limit(L_, 0);
    for (Block &block : blocks) drop(block);
}

TEST_P(Contract, ARefusalLeavesTheBlockAsItWas) {
    std::vector<Block> blocks;
    for (const std::size_t size : {16, 100, 1000, 5000, 40000, 300000, 3000000}) blocks.push_back(get(size));
    ASSERT_EQ(0, jemalloc_lua_set_limit(L_, footprint()));
    for (Block &block : blocks) {
        const std::size_t before = block.size;
        EXPECT_FALSE(resize(block, 64 * M));
        EXPECT_EQ(before, block.size);
    }
    ASSERT_EQ(0, jemalloc_lua_set_limit(L_, 0));
    for (Block &block : blocks) EXPECT_TRUE(resize(block, block.size * 2));
    for (Block &block : blocks) drop(block);
}

TEST_P(Contract, SizesBeyondReasonAreRefused) {
    Block block = get(1000);
    for (const std::size_t size : {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4095, SIZE_MAX / 2 + 1, SIZE_MAX / 2,
                                   SIZE_MAX / 2 - 4095, std::size_t{1} << 62, std::size_t{1} << 48}) {
        EXPECT_EQ(nullptr, alloc_(heap_.get(), nullptr, 0, size)) << size;
        EXPECT_EQ(nullptr, alloc_(heap_.get(), block.ptr, block.size, size)) << size;
        EXPECT_TRUE(intact(block, block.size));
    }
    EXPECT_GT(test::stats(L_).refusals, 0u);
    drop(block);
}

TEST_P(Contract, TheFootprintIsNeverBelowWhatIsLiveAndFallsWithIt) {
    const std::size_t start = footprint();
    std::vector<Block> blocks;
    std::size_t live = 0;
    std::mt19937 random(5);
    for (int i = 0; i < 20000; ++i) {
        blocks.push_back(get(1 + random() % 600));
        live += blocks.back().size;
        if (i % 100 == 0) {
            ASSERT_GE(footprint(), live);
        }
    }
    for (Block &block : blocks) drop(block);
    jemalloc_lua_trim(L_);
    EXPECT_LE(footprint(), start + 256 * K);
}

TEST_P(Contract, TheLimitHoldsForEverySize) {
    ASSERT_EQ(0, jemalloc_lua_set_limit(L_, 8 * M));
    for (const std::size_t size : {16u, 48u, 400u, 1024u, 1025u, 9000u, 40000u, 300000u, 5000000u}) {
        std::vector<Block> blocks;
        for (;;) {
            blocks.push_back(get(size));
            ASSERT_LE(footprint(), 8 * M) << size;
            if (blocks.back().ptr == nullptr) break;
            ASSERT_LE(blocks.size() * size, 8 * M);
        }
        // A limit is no excuse for waste: most of it can be had.
        if (front() != "checked" && size <= 300000) {
            EXPECT_GT(blocks.size() * size, 6 * M) << size;
        }
        for (Block &block : blocks) drop(block);
    }
}

TEST_P(Contract, WhatOneSizeLeftServesAnother) {
    // Of a block of 16 bytes, checked keeps a canary and a record.
    ASSERT_EQ(0, jemalloc_lua_set_limit(L_, (front() == "checked" ? 24 : 8) * M));
    for (int round = 0; round < 4; ++round) {
        for (const std::size_t size : {16u, 1024u, 2000u, 20000u, 100000u, 64u, 2000000u}) {
            std::vector<Block> blocks;
            for (std::size_t bytes = 0; bytes < 3 * M; bytes += size) {
                blocks.push_back(get(size));
                ASSERT_NE(nullptr, blocks.back().ptr) << size;
            }
            for (Block &block : blocks) drop(block);
        }
    }
}

// ---- Heaps

TEST_P(Contract, AHeapOutlivesItsStateUntilItIsDestroyed) {
    lua_close(L_);
    L_ = lua_newstate(alloc_, heap_.get());
    ASSERT_NE(nullptr, L_);
    EXPECT_TRUE(test::open_libraries(L_));
}

TEST_P(Contract, DestroyingAHeapReleasesEveryBlockInIt) {
    // On an arena that others use, blocks that are jemalloc regions of their own stay behind.
    const bool all = arena() == "own" || front() == "checked";
    if (!all && front() == "direct") return;
    const auto abandon = [&] {
        const test::Heap left = heap();
        const lua_Alloc alloc = jemalloc_lua_heap_alloc(left.get());
        for (const std::size_t size : {20, 1000, 3000, 30000, 100000, 3000000}) {
            if (size > K && !all) break;
            for (int i = 0; i < 50; ++i) EXPECT_NE(nullptr, alloc(left.get(), nullptr, 0, size));
        }
    };
    abandon();
    const std::size_t before = test::jemalloc_bytes();
    for (int i = 0; i < 3; ++i) abandon();
    test::expect_jemalloc_bytes(before);
}

TEST_P(Contract, AHeapWithoutAStateIsDestroyedCleanly) {
    heap();
    const std::size_t before = test::jemalloc_bytes();
    for (int i = 0; i < 10; ++i) heap("scrub:true");
    test::expect_jemalloc_bytes(before);
}

// Of some Lua it is an array, not the state.
TEST_P(Contract, TheFirstBlockOfAHeapIsResizedAsAnyOther) {
    for (const std::size_t first : {K + 1, std::size_t{1100}, 5 * K - 100, 20 * K + 8}) {
        lua_close(L_);
        L_ = nullptr;
        heap_ = heap();
        Block block = get(first);
        Block behind = get(2000);
        for (const std::size_t size :
             {first + 90, first - 20, first + 200, first + 1, 3 * first, first / 2}) {
            ASSERT_TRUE(resize(block, size));
            EXPECT_TRUE(intact(behind, behind.size)) << first << " to " << size;
        }
        drop(block);
        drop(behind);
        L_ = lua_newstate(alloc_, heap_.get());
    }
}

// ffi.errno() is asked for after the blocks for a C function's results.
TEST(Heap, LeavesErrnoAsItIsWhereTheKernelMovesNoPages) {
    const jemalloc_lua_options options = test::options("front:slab");
    const test::Heap heap(jemalloc_lua_heap_create(&options));
    const lua_Alloc alloc = jemalloc_lua_heap_alloc(heap.get());
    auto *block = static_cast<char *>(alloc(heap.get(), nullptr, 0, M));
    void *behind = alloc(heap.get(), nullptr, 0, M);  // it can't grow in place
    std::memset(block, 0x55, M);
    ASSERT_EQ(0, madvise(block + M / 2, 64 * K, MADV_DONTDUMP)) << "two mappings";
    errno = ENOTTY;
    auto *moved = static_cast<char *>(alloc(heap.get(), block, M, 32 * M));
    EXPECT_EQ(ENOTTY, errno);
    ASSERT_NE(nullptr, moved);
    EXPECT_NE(block, moved);
    EXPECT_TRUE(std::all_of(moved, moved + M, [](char c) { return c == 0x55; }));
    madvise(block + M / 2, 64 * K, MADV_DODUMP);
    alloc(heap.get(), moved, 32 * M, 0);
    alloc(heap.get(), behind, M, 0);
}

// A small state's blocks are all in its nursery, and the one that was freed last is the next of its class.
TEST(Heap, OfASmallStateHandsOutWhatWasFreedLast) {
    if (test::sanitized) GTEST_SKIP() << "freed blocks wait in a quarantine";
    const test::State one = test::state("front:slab");
    void *heap = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &heap);
    for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(0u, test::stats(one.get()).slabs);
        std::vector<void *> small(200);
        for (void *&block : small) block = alloc(heap, nullptr, 0, 48);
        for (void *block : small) {
            alloc(heap, block, 48, 0);
            ASSERT_EQ(block, alloc(heap, nullptr, 0, 40));
        }
        std::vector<void *> many(20000);  // in slabs
        for (void *&block : many) block = alloc(heap, nullptr, 0, 48);
        EXPECT_LT(0u, test::stats(one.get()).slabs);
        many.insert(many.end(), small.begin(), small.end());
        std::sort(many.begin(), many.end());
        EXPECT_EQ(many.end(), std::adjacent_find(many.begin(), many.end()));
        for (void *block : many) alloc(heap, block, 48, 0);
        jemalloc_lua_trim(one.get());
    }
}

// Where slabs are small, the nursery has room for blocks that are larger than the space between two headers.
TEST(Heap, BlocksOfANurseryOfSmallSlabsStandClearOfItsHeaders) {
    const jemalloc_lua_options options = test::options("slab:16K,nursery:1M");
    const test::Heap heap(jemalloc_lua_heap_create(&options));
    const lua_Alloc alloc = jemalloc_lua_heap_alloc(heap.get());
    const auto get = [&](std::size_t size) {
        return static_cast<unsigned char *>(alloc(heap.get(), nullptr, 0, size));
    };
    std::vector<unsigned char *> large;
    std::vector<unsigned char *> small;
    for (int i = 0; i < 10; ++i) {
        large.push_back(get(20 * K));
        std::memset(large.back(), 0x55, 20 * K);
        for (int j = 0; j < 20; ++j) small.push_back(get(1000));
    }
    for (unsigned char *ptr : small) alloc(heap.get(), ptr, 1000, 0);
    for (const unsigned char *ptr : large) {
        EXPECT_TRUE(std::all_of(ptr, ptr + 20 * K, [](unsigned char c) { return c == 0x55; }));
    }
    for (unsigned char *ptr : large) alloc(heap.get(), ptr, 20 * K, 0);
}

// ---- The size classes that are computed inline

TEST(SizeClass, IsWhatJemallocSays) {
    namespace je = jemalloc_lua::je;
    for (std::size_t size = 16; size <= 64 * K; ++size) ASSERT_EQ(je::nallocx(size, 0), je::size_class(size));
    for (std::size_t size = 64 * K; size < std::size_t{1} << 46; size += size / 61) {
        for (const std::size_t near : {size - 1, size, size + 1}) {
            ASSERT_EQ(je::nallocx(near, 0), je::size_class(near)) << near;
        }
    }
    for (std::size_t size = 1; size < 16; ++size) EXPECT_EQ(16u, je::size_class(size));
}

}  // namespace
