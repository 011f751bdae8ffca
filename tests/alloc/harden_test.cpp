// harden:true ends the process when it finds damage, with a report that names the state, the block and its
// class, before the damage is acted upon. What slab promises holds too: the other tests run on both.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "blocks/hardened.h"
#include "heap/slab_heap.h"
#include "support.h"

namespace {

using jemalloc_lua::Hardened;
using jemalloc_lua::Slab;
using jemalloc_lua::SlabState;
using test::K;
using test::M;

class HardenDeathTest : public testing::TestWithParam<std::string> {
  protected:
    HardenDeathTest() : state_(test::bare_state("harden:true" + GetParam())) {
        alloc_ = lua_getallocf(state_.get(), &ud_);
    }

    void SetUp() override {
        if (test::sanitized) GTEST_SKIP() << "the sanitizer finds the damage first";
    }

    unsigned char *get(std::size_t size) {
        unsigned char *ptr = nullptr;
        do {
            ptr = static_cast<unsigned char *>(alloc_(ud_, nullptr, 0, size));
        } while (left_nursery_ && in_nursery(ptr));
        return ptr;
    }
    void drop(void *ptr, std::size_t size) { alloc_(ud_, ptr, size, 0); }

    // From here on blocks come from slabs and from jemalloc.
    void leave_nursery() { left_nursery_ = true; }

    static constexpr std::size_t slab_size = 32 * K;

    jemalloc_lua::SlabHeap<Hardened> &heap() {
        return static_cast<jemalloc_lua::SlabHeap<Hardened> &>(*static_cast<jemalloc_lua_heap *>(ud_));
    }
    Slab *slab_of(const void *ptr) { return jemalloc_lua::slab_of<Hardened>(ptr, ~(slab_size - 1)); }
    // The heap lies in the first piece of its nursery.
    bool in_nursery(const void *ptr) const {
        const auto start = reinterpret_cast<std::uintptr_t>(ud_) & ~(slab_size - 1);
        return reinterpret_cast<std::uintptr_t>(ptr) - start < 128 * K;
    }

    static std::string text_of(const void *ptr) {
        char text[32];
        std::snprintf(text, sizeof text, "%p", ptr);
        return text;
    }
    std::string report(const void *ptr, const std::string &what) {
        return "^jemalloc_lua: harden: state " + text_of(state_.get()) + ", heap " + text_of(ud_) +
               ": block " + text_of(ptr) + " " + what + "[^\n]*\n";
    }

    test::State state_;
    void *ud_ = nullptr;
    lua_Alloc alloc_;
    bool left_nursery_ = false;
};

INSTANTIATE_TEST_SUITE_P(, HardenDeathTest, testing::Values("", ",scrub:true"), [](const auto &info) {
    return std::string(info.param.empty() ? "plain" : "scrubbing");
});

TEST_P(HardenDeathTest, FindsADoubleFree) {
    for (int round = 0; round < 2; ++round) {
        for (const auto &[size, bytes] : {std::pair{1, 16}, {100, 112}, {1000, 1024}, {3000, 3072}}) {
            unsigned char *ptr = get(static_cast<std::size_t>(size));
            ASSERT_EQ(round == 0, in_nursery(ptr));
            drop(ptr, static_cast<std::size_t>(size));
            const std::string found = report(ptr, "of class " + std::to_string(bytes) + ": double free");
            EXPECT_DEATH(drop(ptr, static_cast<std::size_t>(size)), found);
            EXPECT_DEATH(alloc_(ud_, ptr, static_cast<std::size_t>(size), 5000), found);
        }
        leave_nursery();
    }
}

TEST_P(HardenDeathTest, FindsADoubleFreeHoweverManyFreesAreBetween) {
    leave_nursery();
    std::vector<unsigned char *> blocks;
    for (int i = 0; i < 2000; ++i) blocks.push_back(get(48));
    for (unsigned char *ptr : blocks) drop(ptr, 48);
    EXPECT_DEATH(drop(blocks[1000], 48), "double free|not a block of this heap");
}

TEST_P(HardenDeathTest, FindsADoubleFreeOfWhatWentBackToJemalloc) {
    unsigned char *ptr = get(300000);
    drop(ptr, 300000);
    EXPECT_DEATH(drop(ptr, 300000), report(ptr, "of 300000 bytes, .*not a block of this heap"));
}

TEST_P(HardenDeathTest, FindsAFreeWithAnotherClassesSize) {
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : {32, 100, 1000, 3000, 30000, 300000}) {
            if (round == 0 && size > 10000) continue;
            unsigned char *ptr = get(size);
            const std::size_t bytes = size > K ? jemalloc_lua::je::size_class(size)
                                               : jemalloc_lua::class_size(jemalloc_lua::class_of(size));
            for (const std::size_t wrong :
                 {size + 200 + size / 4, size / 2, std::size_t{1500}, std::size_t{1 * M}}) {
                const std::string found =
                    report(ptr, "of class " + std::to_string(bytes) + ": wrong size: the caller says " +
                                    std::to_string(wrong));
                EXPECT_DEATH(drop(ptr, wrong), found) << size;
                EXPECT_DEATH(alloc_(ud_, ptr, wrong, 64), found) << size;
            }
            EXPECT_DEATH(drop(ptr, 0), "the caller says 0 bytes");
            drop(ptr, size);
        }
        leave_nursery();
    }
}

TEST_P(HardenDeathTest, FindsAPointerThatIsNoBlockOfTheHeap) {
    alignas(64) static unsigned char other[8192];
    const test::State second = test::bare_state("harden:true");
    void *second_ud = nullptr;
    const lua_Alloc second_alloc = lua_getallocf(second.get(), &second_ud);
    unsigned char *mine = get(500);
    unsigned char *large = get(200000);
    for (const std::size_t size : {64, 2000, 100000}) {
        const auto refused = [&](void *ptr) {
            EXPECT_DEATH(drop(ptr, size), report(ptr, "of " + std::to_string(size) + " bytes.*not a block"));
        };
        refused(other + 64);
        // Addresses that nothing is at: they are not followed.
        refused(reinterpret_cast<void *>(64));
        refused(reinterpret_cast<void *>(~std::uintptr_t{0} - 63));
        refused(mine + 16);
        refused(mine + 1);
        refused(large + 4096);
        refused(ud_);
        refused(second_alloc(second_ud, nullptr, 0, size));
    }
}

TEST_P(HardenDeathTest, FindsAWriteToTheLinkOfAFreedBlockBeforeItIsFollowed) {
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : {16, 100, 1000, 3000}) {
            unsigned char *ptr = get(size);
            drop(ptr, size);
            for (const int byte : {0, 7, 8, 15}) {
                EXPECT_DEATH(
                    {
                        ptr[byte] ^= 1;
                        for (int i = 0; i < 5000; ++i) get(size);
                    },
                    report(ptr, "written to after it was freed"))
                    << size << " byte " << byte;
            }
        }
        leave_nursery();
    }
}

// A link that was right once, put back into its block, passes for one; but what it leads to is in use.
TEST_P(HardenDeathTest, FindsABlockInUseOnAFreeList) {
    leave_nursery();
    unsigned char *first = get(100);
    unsigned char *second = get(100);
    drop(first, 100);
    drop(second, 100);  // links to first
    const std::string link(reinterpret_cast<char *>(second), 16);
    std::vector<unsigned char *> taken;
    while (std::find(taken.begin(), taken.end(), first) == taken.end()) taken.push_back(get(100));
    drop(second, 100);
    EXPECT_DEATH(
        {
            std::memcpy(second, link.data(), link.size());
            for (int i = 0; i < 5000; ++i) get(100);
        },
        report(first, "written to after it was freed|ready to be handed out although it is not free"));
}

TEST_P(HardenDeathTest, LeavesNoLinkInABlockThatItHandsOut) {
    leave_nursery();
    for (const std::size_t size : {64, 3000}) {
        unsigned char *freed = get(size);
        std::memset(freed, 0xFF, size);
        drop(freed, size);
        unsigned char *ptr = nullptr;
        while (ptr != freed) ptr = get(size);
        EXPECT_TRUE(std::all_of(ptr, ptr + 16, [](unsigned char c) { return c == 0; }));
    }
}

TEST_P(HardenDeathTest, FindsWhatRanOverTheHeaderOfASlab) {
    for (int round = 0; round < 2; ++round) {
        unsigned char *ptr = get(64);
        Slab *slab = slab_of(ptr);
        ASSERT_EQ(round == 0, slab->state == SlabState::nursery);
        auto *header = reinterpret_cast<unsigned char *>(slab);
        const std::size_t rear = sizeof(Slab) + slab_size / 16;
        for (const std::ptrdiff_t at :
             {std::ptrdiff_t{-64}, std::ptrdiff_t{-1}, std::ptrdiff_t(rear), std::ptrdiff_t(rear + 63)}) {
            const std::string found = report(slab, "is the header of a slab, and something ran into it");
            // From a block, over the guard, into the header. Not what happens to stand in the random guard.
            EXPECT_DEATH(
                {
                    std::memset(header + at, header[at] ^ 0xFF, at < 0 ? std::size_t(-at) + 48 : 1);
                    drop(ptr, 64);
                    for (int i = 0; i < 5000; ++i) get(64);
                },
                found)
                << at;
            EXPECT_DEATH(
                {
                    header[at] ^= 1;
                    jemalloc_lua_trim(state_.get());
                    jemalloc_lua_close(state_.release());
                },
                found)
                << at;
        }
        drop(ptr, 64);
        leave_nursery();
    }
}

TEST_P(HardenDeathTest, KeepsBlocksAwayFromHeaders) {
    leave_nursery();
    for (int i = 0; i < 3000; ++i) {
        const unsigned char *ptr = get(48);
        const auto *header = reinterpret_cast<unsigned char *>(slab_of(ptr));
        const std::ptrdiff_t from = ptr - header;
        EXPECT_TRUE(from + 48 <= -64 || from >= std::ptrdiff_t(sizeof(Slab) + slab_size / 16 + 64));
    }
}

TEST_P(HardenDeathTest, FindsAWriteToItsListOfBlocks) {
    get(100000);  // now there is one
    const jemalloc_lua::ExtentMap &map = heap().pages().map();
    auto *start = static_cast<unsigned char *>(const_cast<void *>(map.memory()));
    for (const std::ptrdiff_t at : {std::ptrdiff_t{63}, std::ptrdiff_t(64 + map.capacity() * 16)}) {
        EXPECT_DEATH(
            {
                start[at] ^= 1;
                get(100000);
            },
            "is the heap's list of its blocks");
    }
}

TEST_P(HardenDeathTest, FindsDamageDoneByAScript) {
    if (!test::open_libraries(state_.get())) GTEST_FAIL();
    EXPECT_DEATH(std::fputs(test::run(state_.get(), R"(
        local ffi = require 'ffi'
        local strings = {}
        for i = 1, 5000 do strings[i] = ('x'):rep(60) .. i end
        local function address(s) return tonumber(ffi.cast('intptr_t', ffi.cast('const char *', s))) end
        local at = address(strings[4000])
        address('another')
        for i = 2, 5000, 2 do strings[i] = nil end
        collectgarbage() collectgarbage()
        -- A string's bytes follow its header of 24 bytes, where the link is now.
        ffi.cast('uint64_t *', at - 24)[0] = at
        for i = 1, 5000 do strings = {('y'):rep(60) .. i, strings} end)")
                                .c_str(),
                            stderr),
                 "harden: state .* block .* written to after it was freed");
}

TEST(Harden, FindsNothingInAProgramThatIsRight) {
    for (const char *conf : {"harden:true,limit:32M", "harden:true,scrub:true",
                             "harden:true,slab:16K,small_max:528", "harden:true,slab:1M,nursery:1M"}) {
        const test::State one = test::state(conf);
        EXPECT_EQ("", test::run(one.get(), R"(
            local t = {}
            for i = 1, 100000 do t[i % 500] = {('x'):rep(i % 300), function() return i end} end
            for i = 1, 20 do pcall(string.rep, 'x', 2^25) end
            t = {} for i = 1, 300000 do t[i] = i end
            collectgarbage())"))
            << conf;
    }
}

// What a peak needed to be known goes back as the peak does.
TEST(Harden, KnowsNoMoreThanItHolds) {
    const test::State one = test::bare_state("harden:true,retain:0,nursery:32K");
    void *ud = nullptr;
    const lua_Alloc alloc = lua_getallocf(one.get(), &ud);
    const std::size_t before = test::stats(one.get()).footprint;
    std::vector<void *> blocks;
    for (int i = 0; i < 50000; ++i) blocks.push_back(alloc(ud, nullptr, 0, 1100));
    for (void *ptr : blocks) alloc(ud, ptr, 1100, 0);
    jemalloc_lua_trim(one.get());
    EXPECT_LE(test::stats(one.get()).footprint, before + 64 * K);
}

}  // namespace
