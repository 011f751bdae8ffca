// thp:always: who has huge pages, and that nobody else gets them with memory that was given back. And which
// pages of huge blocks are mapped ahead.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "support.h"
#include "system/kernel.h"

namespace {

using test::M;
using test::run;
using test::State;

constexpr std::size_t huge_page = 2 * M;

// Bytes of this process's mappings that were advised to use huge pages (proc(5), VmFlags).
std::size_t advised() {
    std::ifstream maps("/proc/self/smaps");
    std::size_t size = 0;
    std::size_t sum = 0;
    for (std::string line; std::getline(maps, line);) {
        if (line.rfind("Size:", 0) == 0) size = std::stoul(line.substr(5)) * test::K;
        if (line.rfind("VmFlags:", 0) == 0 && line.find(" hg") != std::string::npos) sum += size;
    }
    return sum;
}

bool kernel_tells() {
    const std::size_t before = advised();
    void *memory = mmap(nullptr, huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool told = madvise(memory, huge_page, MADV_HUGEPAGE) == 0 && advised() == before + huge_page;
    munmap(memory, huge_page);
    return told;
}

class HugePages : public testing::TestWithParam<const char *> {
  protected:
    void SetUp() override {
        if (!kernel_tells()) GTEST_SKIP() << "this kernel does not tell which mappings may have huge pages";
    }

    // Bytes that have them beyond those from before.
    std::size_t now() const { return advised() - before_; }

    State state() const { return test::state(GetParam()); }

  private:
    const std::size_t before_ = advised();
};

// An array of 16 bytes for each of n, in one block.
constexpr const char *make_array = "function array(n) t = require('table.new')(n, 0) end ";

TEST_P(HugePages, AreForBlocksFromTwoMegabytesUp) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), "s = ('x'):rep(1000000)"));
    EXPECT_EQ(0u, now());
    EXPECT_EQ("", run(one.get(), std::string(make_array) + "array(1e6)"));  // 8 MB
    EXPECT_GE(now(), 6 * M);
    EXPECT_LE(now(), 8 * M);
}

TEST_P(HugePages, StayWithABlockThatGrows) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 3e6 do t[i] = i end"));  // to 32 MiB
    EXPECT_GE(now(), 32 * M);
    EXPECT_EQ("", run(one.get(), "for i = 1, 3e6 do assert(t[i] == i) end"));
}

TEST_P(HugePages, GoWithTheBlock) {
    const State one = state();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ("", run(one.get(), std::string(make_array) + "array(2e6)"));
        EXPECT_GE(now(), 14 * M);
        EXPECT_EQ("", run(one.get(), "t = nil collectgarbage()"));
        EXPECT_EQ(0u, now());
    }
}

// A heap's slabs are in memory that had huge pages before.
TEST_P(HugePages, AreNotForSlabs) {
    const State one = state();
    EXPECT_EQ("", run(one.get(), std::string(make_array) + "array(2e6) t = nil collectgarbage()"));
    EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 100000 do t[i] = { i } end"));
    EXPECT_LE(now(), 2 * M);  // the array
}

TEST_P(HugePages, GoWithTheState) {
    for (int i = 0; i < 3; ++i) {
        State one = state();
        EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 3e6 do t[i] = i end"));
        EXPECT_GE(now(), 32 * M);
        if (i == 0) jemalloc_lua_close(one.release());
        if (i == 1) lua_close(one.release());
    }
    EXPECT_EQ(0u, now());
}

TEST_P(HugePages, AreForAsManyBlocksAsThereAre) {
    const State one = state();
    const std::string make = "t = {} for i = 1, 40 do t[i] = require('table.new')(5e5, 0) end ";  // 4 MB each
    EXPECT_EQ("", run(one.get(), make));
    const std::size_t many = now();
    EXPECT_GE(many, 40 * 2 * M);
    EXPECT_EQ("", run(one.get(), "for i = 1, 10 do t[i] = nil end collectgarbage()"));
    EXPECT_LT(now(), many);
    EXPECT_EQ("", run(one.get(), "t = nil collectgarbage()"));
    EXPECT_EQ(0u, now());
}

TEST_P(HugePages, AreNotForWhatABlockLosesAsItShrinks) {
    const jemalloc_lua_options options = test::options(GetParam());
    const test::Heap heap(jemalloc_lua_heap_create(&options));
    const lua_Alloc alloc = jemalloc_lua_heap_alloc(heap.get());
    void *first = alloc(heap.get(), nullptr, 0, 64);  // the heap ends with it
    void *block = alloc(heap.get(), nullptr, 0, 32 * M);
    ASSERT_NE(nullptr, block);
    EXPECT_EQ(32 * M, now());
    block = alloc(heap.get(), block, 32 * M, 8 * M);
    EXPECT_EQ(8 * M, now());
    block = alloc(heap.get(), block, 8 * M, 3 * M);
    EXPECT_EQ(2 * M, now());
    alloc(heap.get(), block, 3 * M, 0);
    EXPECT_EQ(0u, now());
    alloc(heap.get(), first, 64, 0);
}

INSTANTIATE_TEST_SUITE_P(Fronts, HugePages,
                         testing::Values("thp:always,arena:auto", "thp:always,arena:own",
                                         "thp:always,arena:shared", "thp:always,harden:true"));

TEST(HugePagesByDefault, AreTheSystemsConcern) {
    const std::size_t before = advised();
    const State one = test::state("front:slab");
    EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 3e6 do t[i] = i end"));
    EXPECT_EQ(before, advised());
}

// Bytes of a block's pages that have memory.
std::size_t mapped(const void *block, std::size_t size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto first = reinterpret_cast<std::uintptr_t>(block) & ~(page - 1);
    std::vector<unsigned char> pages((reinterpret_cast<std::uintptr_t>(block) + size - first + page - 1) /
                                     page);
    EXPECT_EQ(0, mincore(reinterpret_cast<void *>(first), pages.size() * page, pages.data()));
    return page * static_cast<std::size_t>(
                      std::count_if(pages.begin(), pages.end(), [](auto each) { return (each & 1) != 0; }));
}

bool kernel_maps_ahead() {
    void *memory = mmap(nullptr, huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool can = jemalloc_lua::populate(memory, huge_page) && mapped(memory, huge_page) == huge_page;
    munmap(memory, huge_page);
    return can;
}

class MappedAhead : public testing::Test {
  protected:
    void SetUp() override {
        if (!kernel_maps_ahead()) GTEST_SKIP() << "this kernel does not map pages ahead, or tell";
    }

    void *resize(void *block, std::size_t old_size, std::size_t new_size) {
        return jemalloc_lua_heap_alloc(heap_.get())(heap_.get(), block, old_size, new_size);
    }

    const jemalloc_lua_options options_ = test::options("front:slab,arena:own");
    const test::Heap heap_{jemalloc_lua_heap_create(&options_)};
    void *first_ = resize(nullptr, 0, 64);  // the heap ends with it
};

TEST_F(MappedAhead, ArePartsOfTables) {
    constexpr std::size_t hash = (1 << 18) * 24;
    constexpr std::size_t half = (1 << 18) * 8 + 8;
    constexpr std::size_t whole = (1 << 19) * 8 + 8;
    void *nodes = resize(nullptr, 0, hash);
    EXPECT_GE(mapped(nodes, hash), hash);
    void *array = resize(nullptr, 0, half);
    EXPECT_GE(mapped(array, half), half);
    array = resize(array, half, whole);
    EXPECT_GE(mapped(array, whole), whole);
    resize(array, whole, 0);
    resize(nodes, hash, 0);
    resize(first_, 64, 0);
}

TEST_F(MappedAhead, IsNotWhatMayNeverBeWritten) {
    constexpr std::size_t userdata = 32 * M + 40;
    void *block = resize(nullptr, 0, userdata);
    EXPECT_EQ(0u, mapped(block, userdata));
    void *buffer = resize(nullptr, 0, 64 * M);
    EXPECT_EQ(0u, mapped(buffer, 64 * M));
    buffer = resize(buffer, 64 * M, 128 * M);
    EXPECT_EQ(16 * M, mapped(buffer, 128 * M));
    buffer = resize(buffer, 128 * M, 1024 * M);  // not because it was full
    EXPECT_EQ(48 * M, mapped(buffer, 1024 * M));
    resize(buffer, 1024 * M, 0);
    resize(block, userdata, 0);
    resize(first_, 64, 0);
}

// Pages of a block before are not given up for those that the block has.
TEST_F(MappedAhead, StaysWhereABlockGrowsIntoWhatWasFreed) {
    auto *block = static_cast<char *>(resize(nullptr, 0, 1 * M));
    for (std::size_t i = 0; i < 1 * M; ++i) block[i] = static_cast<char>(i / 7);
    void *before = resize(nullptr, 0, 3 * M);
    std::memset(before, 1, 3 * M);
    resize(before, 3 * M, 0);
    block = static_cast<char *>(resize(block, 1 * M, 3 * M));
    ASSERT_EQ(before, block) << "jemalloc took fresh memory";
    EXPECT_GE(mapped(block, 3 * M), 3 * M);
    for (std::size_t i = 0; i < 1 * M; ++i) ASSERT_EQ(static_cast<char>(i / 7), block[i]) << i;
    resize(block, 3 * M, 0);
    resize(first_, 64, 0);
}

}  // namespace
