// Recordings: what is written is what is read; what a crash left is read up to its last whole record; what is
// damaged or foreign is refused with one line.

#include "trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <lua.hpp>
#include <random>

#include "record.h"

namespace jemalloc_lua::bench {
namespace {

using Bytes = std::vector<unsigned char>;

class Recording : public testing::Test {
  protected:
    Recording() { close(mkstemp(path_.data())); }
    ~Recording() override { unlink(path_.c_str()); }

    Bytes file_bytes() const {
        std::ifstream file(path_, std::ios::binary);
        return Bytes(std::istreambuf_iterator<char>(file), {});
    }

    const char *path() const { return path_.c_str(); }

    static void *address(std::uintptr_t value) { return reinterpret_cast<void *>(value); }

    // Two blocks of which one grows and both are freed; a third that is left alive.
    Bytes small_recording() {
        TraceWriter writer;
        EXPECT_TRUE(writer.open(path()));
        writer.add_malloc(address(0x7f0000001000), 64);
        writer.add_malloc(address(0x7f0000000ff0), 300);
        writer.add_malloc(address(0x1000), 5);
        writer.add_realloc(0x7f0000000ff0, address(0x7f0000100000), 100000);
        writer.add_free(address(0x7f0000001000));
        writer.add_free(address(0x7f0000100000));
        EXPECT_TRUE(writer.close());
        return file_bytes();
    }

  private:
    std::string path_ = testing::TempDir() + "recording_XXXXXX";
};

TEST_F(Recording, IsReadAsItWasWritten) {
    small_recording();
    Trace trace;
    std::string why;
    ASSERT_TRUE(read_trace(path(), trace, why)) << why;
    const std::vector<Request> expected = {
        {Op::malloc, 0, 0, 64},        {Op::malloc, 1, 0, 300}, {Op::malloc, 2, 0, 5},
        {Op::realloc, 1, 300, 100000}, {Op::free, 0, 64, 0},    {Op::free, 1, 100000, 0},
        {Op::free, 2, 5, 0},  // what was alive at the end
    };
    EXPECT_EQ(trace.requests, expected);
    EXPECT_EQ(trace.recorded, 6u);
    EXPECT_EQ(trace.slots, 3u);
    EXPECT_EQ(trace.allocations, 4u);
    EXPECT_EQ(trace.peak_bytes, 64u + 100000 + 5);
    EXPECT_FALSE(trace.cut_short);
}

TEST_F(Recording, CutAtAnyByteIsReadUpToItsLastWholeRecord) {
    const Bytes whole = small_recording();
    std::size_t last = 0;
    for (std::size_t length = 0; length < whole.size(); ++length) {
        const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
        Trace trace;
        std::string why;
        if (length < 8) {
            EXPECT_FALSE(parse_trace(part, trace, why)) << length;
            EXPECT_EQ(why, "not a recording of allocations");
            continue;
        }
        ASSERT_TRUE(parse_trace(part, trace, why)) << length << ": " << why;
        EXPECT_EQ(trace.cut_short, length > 8) << length;
        EXPECT_GE(trace.recorded, last) << length;
        EXPECT_LT(trace.recorded, 6u) << length;
        last = trace.recorded;
    }
    EXPECT_EQ(last, 5u);
}

TEST_F(Recording, OfManyBlocksSurvivesBlockBoundaries) {
    std::mt19937_64 random(7);
    TraceWriter writer;
    ASSERT_TRUE(writer.open(path()));
    std::vector<std::pair<std::uintptr_t, std::uint32_t>> made;
    for (std::uintptr_t i = 0; i < 60000; ++i) {
        const std::uintptr_t at = (i * 0x9E3779B97F4A7C15u) >> 20 << 4;
        made.emplace_back(at, 1 + static_cast<std::uint32_t>(random() % 5000));
        writer.add_malloc(address(at), made.back().second);
    }
    for (const auto &[at, size] : made) writer.add_free(address(at));
    ASSERT_TRUE(writer.close());
    Trace trace;
    std::string why;
    ASSERT_TRUE(read_trace(path(), trace, why)) << why;
    ASSERT_EQ(trace.requests.size(), 2 * made.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
        ASSERT_EQ(trace.requests[i].new_size, made[i].second);
        ASSERT_EQ(trace.requests[made.size() + i].old_size, made[i].second);
    }
}

TEST_F(Recording, OfAnotherVersionOrKindIsNamedSo) {
    Bytes bytes = small_recording();
    Trace trace;
    std::string why;
    bytes[7] = 9;
    EXPECT_FALSE(parse_trace(bytes, trace, why));
    EXPECT_EQ(why, "a recording of version 9; this program reads version 1");
    bytes[0] = '#';
    EXPECT_FALSE(parse_trace(bytes, trace, why));
    EXPECT_EQ(why, "not a recording of allocations");
    EXPECT_FALSE(read_trace("/nonexistent/file", trace, why));
    EXPECT_EQ(why, "No such file or directory");
}

TEST_F(Recording, WithAFlippedBitIsRefused) {
    const Bytes whole = small_recording();
    for (std::size_t at = 8; at < whole.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            Bytes bytes = whole;
            bytes[at] = static_cast<unsigned char>(bytes[at] ^ 1 << bit);
            Trace trace;
            std::string why;
            const bool read = parse_trace(bytes, trace, why);
            // A length that points past the end is what a cut-off recording looks like.
            EXPECT_TRUE(!read || trace.cut_short) << at << "." << bit;
        }
    }
}

// Whatever the bytes are, a trace that is read makes sense: it can be replayed.
void expect_sensible(const Trace &trace) {
    std::vector<std::uint32_t> sizes(trace.slots);
    for (const Request &request : trace.requests) {
        ASSERT_LT(request.slot(), trace.slots);
        std::uint32_t &size = sizes[request.slot()];
        ASSERT_EQ(size, request.old_size);
        ASSERT_EQ(request.op() == Op::malloc, request.old_size == 0);
        ASSERT_EQ(request.op() == Op::free, request.new_size == 0);
        size = request.new_size;
    }
    for (const std::uint32_t size : sizes) ASSERT_EQ(size, 0u);
}

TEST_F(Recording, OfAStateHoldsItsRequestsAndLeavesTheStateAsItWas) {
    lua_State *L = luaL_newstate();
    void *ud_before = nullptr;
    const lua_Alloc before = lua_getallocf(L, &ud_before);
    ASSERT_EQ(jemalloc_lua_record_start(L, path()), 0);
    EXPECT_EQ(jemalloc_lua_record_start(L, path()), EALREADY);
    ASSERT_EQ(luaL_dostring(L, "local t = {} for i = 1, 1000 do t[i] = { 'x' .. i } end"), 0);
    EXPECT_EQ(jemalloc_lua_record_stop(L), 0);
    EXPECT_EQ(jemalloc_lua_record_stop(L), EINVAL);
    void *ud_after = nullptr;
    EXPECT_EQ(lua_getallocf(L, &ud_after), before);
    EXPECT_EQ(ud_after, ud_before);
    EXPECT_EQ(jemalloc_lua_record_start(L, "/nonexistent/folder/file"), ENOENT);
    lua_close(L);
    Trace trace;
    std::string why;
    ASSERT_TRUE(read_trace(path(), trace, why)) << why;
    EXPECT_GT(trace.allocations, 2000u);
    expect_sensible(trace);
}

}  // namespace
}  // namespace jemalloc_lua::bench
