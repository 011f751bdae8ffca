// front:checked ends the process when it finds damage, with a report that names the block.

#include <cstdint>
#include <string>

#include "support.h"

namespace {

using test::K;

class CheckedDeathTest : public testing::Test {
  protected:
    CheckedDeathTest() {
        const jemalloc_lua_options options = test::options("front:checked");
        heap_.reset(jemalloc_lua_heap_create(&options));
        alloc_ = jemalloc_lua_heap_alloc(heap_.get());
    }

    void SetUp() override {
        if (test::thread_sanitized) GTEST_SKIP() << "no death tests under ThreadSanitizer";
    }

    unsigned char *get(std::size_t size) {
        return static_cast<unsigned char *>(alloc_(heap_.get(), nullptr, 0, size));
    }
    void drop(void *ptr, std::size_t size) { alloc_(heap_.get(), ptr, size, 0); }

    static std::string report(const void *ptr, std::size_t size, const std::string &what) {
        char text[32];
        std::snprintf(text, sizeof text, "%p", ptr);
        return "jemalloc_lua: front:checked: block " + std::string(text) + " of " + std::to_string(size) +
               " bytes .*" + what;
    }

    test::Heap heap_;
    lua_Alloc alloc_;
};

TEST_F(CheckedDeathTest, FindsADoubleFree) {
    unsigned char *ptr = get(100);
    drop(ptr, 100);
    EXPECT_DEATH(drop(ptr, 100), report(ptr, 100, "double free"));
}

TEST_F(CheckedDeathTest, FindsAResizeOfAFreedBlock) {
    unsigned char *ptr = get(100);
    drop(ptr, 100);
    EXPECT_DEATH(alloc_(heap_.get(), ptr, 100, 200), report(ptr, 100, "free already"));
}

TEST_F(CheckedDeathTest, FindsAWrongOldSize) {
    for (const std::size_t wrong : {99, 101, 1, 4096}) {
        unsigned char *ptr = get(100);
        EXPECT_DEATH(drop(ptr, wrong), report(ptr, 100, "wrong size.* " + std::to_string(wrong)));
        EXPECT_DEATH(alloc_(heap_.get(), ptr, wrong, 50), report(ptr, 100, "wrong size"));
        drop(ptr, 100);
    }
}

TEST_F(CheckedDeathTest, FindsAWritePastTheEnd) {
    for (const std::size_t size : {1, 8, 100, 5000, 100000}) {
        for (const std::size_t past : {0, 1, 15}) {
            unsigned char *ptr = get(size);
            EXPECT_DEATH(
                {
                    ptr[size + past] ^= 1;
                    drop(ptr, size);
                },
                report(ptr, size, "past its end: byte " + std::to_string(size + past)));
            drop(ptr, size);
        }
    }
}

TEST_F(CheckedDeathTest, FindsAWriteToAFreedBlock) {
    unsigned char *ptr = get(300);
    drop(ptr, 300);
    EXPECT_DEATH(
        {
            ptr[200] = 7;
            heap_.reset();
        },
        report(ptr, 300, "after it was freed: byte 200"));
}

TEST_F(CheckedDeathTest, FindsAPointerThatIsNotItsOwn) {
    alignas(16) static unsigned char other[64];
    EXPECT_DEATH(drop(other, 64), report(other, 64, "not a block of this heap"));
    unsigned char *ptr = get(100);
    EXPECT_DEATH(drop(ptr + 16, 84), report(ptr + 16, 84, "not a block of this heap"));
    drop(ptr, 100);
}

TEST_F(CheckedDeathTest, FindsABlockOfAnotherHeap) {
    const jemalloc_lua_options options = test::options("front:checked");
    const test::Heap other(jemalloc_lua_heap_create(&options));
    void *ptr = alloc_(other.get(), nullptr, 0, 64);
    EXPECT_DEATH(drop(ptr, 64), report(ptr, 64, "not a block of this heap"));
    alloc_(other.get(), ptr, 64, 0);
}

TEST(Checked, FindsNothingInAProgramThatIsRight) {
    const test::State one = test::state("front:checked,limit:16M");
    EXPECT_EQ("", test::run(one.get(), R"(
        local t = {}
        for i = 1, 20000 do t[i % 500] = {('x'):rep(i % 300), function() return i end} end
        for i = 1, 20 do pcall(string.rep, 'x', 2^24) end)"));
}

}  // namespace
