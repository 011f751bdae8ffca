// A heap against a model: random requests as Lua makes them, with the model saying what each block must hold
// and where none may be.
//
// JEMALLOC_LUA_MODEL_OPS sets the number of operations for each front end, arena and seed (10 million for a
// long run), JEMALLOC_LUA_MODEL_SEEDS the number of seeds.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "support.h"

namespace {

using test::K;
using test::M;

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr std::size_t limit = 24 * M;

class Model {
  public:
    Model(jemalloc_lua_heap *heap, std::uint64_t seed) : heap_(heap), random_(seed) {
        alloc_ = jemalloc_lua_heap_alloc(heap);
        L_ = lua_newstate(alloc_, heap_);
        EXPECT_NE(nullptr, L_);
        EXPECT_EQ(0, jemalloc_lua_set_limit(L_, limit));
    }

    ~Model() {
        while (!blocks_.empty()) drop(blocks_.size() - 1);
        if (L_ != nullptr) lua_close(L_);
    }

    void run(std::uint64_t operations) {
        // Phases as of a program: it builds up, works on, lets go; and sometimes runs into its limit.
        while (operations > 0 && !testing::Test::HasFailure()) {
            const std::uint64_t length = std::min<std::uint64_t>(operations, 1000 + random_() % 20000);
            operations -= length;
            const unsigned bias = static_cast<unsigned>(random_() % 100);
            for (std::uint64_t i = 0; i < length; ++i) step(bias);
            check_account();
            if (random_() % 8 == 0) jemalloc_lua_trim(L_);
            if (random_() % 8 == 0) empty();
        }
    }

    std::uint64_t refusals() const { return refusals_; }

  private:
    struct Block {
        unsigned char *ptr;
        std::size_t size;
        unsigned char seed;
    };

    // Strings, tables, closures; array and hash parts by powers of two; now and then something big.
    std::size_t some_size() {
        switch (random_() % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
                return 64;
            case 4:
            case 5:
            case 6:
                return 25 + random_() % 60;
            case 7:
            case 8:
                return 40 + random_() % 2 * 8;
            case 9:
            case 10:
                return std::size_t{24} << random_() % 9;
            case 11:
            case 12:
                return std::size_t{8} << random_() % 10;
            case 13:
                return 1 + random_() % 1500;
            case 14:
                return random_() % 8 == 0 ? 1 + random_() % (64 * K) : 80;
            default:
                return random_() % 64 == 0 ? 1 + random_() % (2 * M) : 48;
        }
    }

    void step(unsigned bias) {
        const unsigned what = static_cast<unsigned>(random_() % 100);
        if (blocks_.empty() || what < 20 + bias * 4 / 10) {
            obtain(some_size());
        } else if (what < 75) {
            drop(random_() % blocks_.size());
        } else {
            resize(random_() % blocks_.size());
        }
    }

    // Contents are tied to the block: a byte of its own at each end and in the middle, all of them if it is
    // small. The rest of a large one would take most of the time.
    static constexpr std::size_t edge = 64;

    void fill(const Block &block) {
        if (block.size <= 4 * edge) {
            std::memset(block.ptr, block.seed, block.size);
            return;
        }
        std::memset(block.ptr, block.seed, edge);
        std::memset(block.ptr + block.size / 2, block.seed, edge);
        std::memset(block.ptr + block.size - edge, block.seed, edge);
    }

    static bool all(const unsigned char *bytes, std::size_t size, unsigned char seed) {
        return std::all_of(bytes, bytes + size, [seed](unsigned char c) { return c == seed; });
    }

    // The first `size` bytes of what was filled.
    void check(const Block &block, const unsigned char *ptr, std::size_t size) {
        if (block.size <= 4 * edge) {
            ASSERT_TRUE(all(ptr, std::min(size, block.size), block.seed)) << "block of " << block.size;
            return;
        }
        ASSERT_TRUE(all(ptr, std::min(size, edge), block.seed)) << "start of " << block.size;
        if (size >= block.size / 2 + edge) {
            ASSERT_TRUE(all(ptr + block.size / 2, edge, block.seed)) << "middle of " << block.size;
        }
        if (size >= block.size) {
            ASSERT_TRUE(all(ptr + block.size - edge, edge, block.seed)) << "end of " << block.size;
        }
    }

    // Where blocks are: none may reach into another.
    void place(const unsigned char *ptr, std::size_t size) {
        const auto start = reinterpret_cast<std::uintptr_t>(ptr);
        ASSERT_EQ(0u, start % 16);
        const auto after = where_.lower_bound(start);
        ASSERT_TRUE(after == where_.end() || start + size <= after->first) << "reaches into the next block";
        if (after != where_.begin()) {
            const auto before = std::prev(after);
            ASSERT_LE(before->first + before->second, start) << "begins within another block";
        }
        where_.emplace_hint(after, start, size);
        live_ += size;
    }

    void displace(const unsigned char *ptr, std::size_t size) {
        where_.erase(reinterpret_cast<std::uintptr_t>(ptr));
        live_ -= size;
    }

    void obtain(std::size_t size) {
        auto *ptr = static_cast<unsigned char *>(alloc_(heap_, nullptr, random_() % 10, size));
        if (ptr == nullptr) return refused(size);
        place(ptr, size);
        blocks_.push_back({ptr, size, static_cast<unsigned char>(random_())});
        fill(blocks_.back());
    }

    void drop(std::size_t index) {
        const Block block = blocks_[index];
        check(block, block.ptr, block.size);
        displace(block.ptr, block.size);
        ASSERT_EQ(nullptr, alloc_(heap_, block.ptr, block.size, 0));
        blocks_[index] = blocks_.back();
        blocks_.pop_back();
    }

    void resize(std::size_t index) {
        Block &block = blocks_[index];
        const std::size_t size = random_() % 2 == 0 ? some_size() : std::min(2 * block.size, 4 * M);
        check(block, block.ptr, block.size);
        displace(block.ptr, block.size);
        auto *ptr = static_cast<unsigned char *>(alloc_(heap_, block.ptr, block.size, size));
        if (ptr == nullptr) {
            EXPECT_GT(size, block.size) << "a block could not shrink";
            place(block.ptr, block.size);
            check(block, block.ptr, block.size);
            return refused(size);
        }
        check(block, ptr, size);
        place(ptr, size);
        block.ptr = ptr;
        block.size = size;
        fill(block);
    }

    // Nothing is refused while there is plenty.
    void refused(std::size_t size) {
        ++refusals_;
        const jemalloc_lua_stats now = test::stats(L_);
        ASSERT_GT(now.footprint + 4 * size + M, limit) << "refused " << size << " bytes";
        for (int i = 0; i < 200 && !blocks_.empty(); ++i) drop(random_() % blocks_.size());
    }

    void check_account() {
        const jemalloc_lua_stats now = test::stats(L_);
        ASSERT_GE(now.footprint, live_ + now.live);
        ASSERT_LE(now.footprint, limit);
        ASSERT_GE(now.peak, now.footprint);
    }

    void empty() {
        while (!blocks_.empty()) drop(blocks_.size() - 1);
        jemalloc_lua_trim(L_);
        ASSERT_EQ(0u, live_);
        ASSERT_LE(test::stats(L_).footprint, M + 16 * K);
    }

    jemalloc_lua_heap *heap_;
    lua_Alloc alloc_ = nullptr;
    lua_State *L_ = nullptr;
    std::mt19937_64 random_;
    std::vector<Block> blocks_;
    std::map<std::uintptr_t, std::size_t> where_;
    std::size_t live_ = 0;
    std::uint64_t refusals_ = 0;
};

class RandomRequests : public test::FrontAndArena {
  protected:
    void try_seeds(const std::string &more) {
        const std::uint64_t operations = setting("JEMALLOC_LUA_MODEL_OPS", test::sanitized ? 20000 : 100000);
        const std::uint64_t seeds = setting("JEMALLOC_LUA_MODEL_SEEDS", 2);
        for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) {
            SCOPED_TRACE("seed " + std::to_string(seed));
            const test::Heap under_test = heap(more);
            Model(under_test.get(), seed).run(operations);
        }
    }
};
ON_EVERY_FRONT_AND_ARENA(RandomRequests);

TEST_P(RandomRequests, AreServedAsTheModelSays) {
    try_seeds("");
}

// Options of front:slab alone.
class RandomRequestsOnSlabs : public RandomRequests {};
INSTANTIATE_TEST_SUITE_P(, RandomRequestsOnSlabs,
                         testing::Combine(testing::Values<std::string>("slab", "harden"),
                                          testing::Values<std::string>("auto", "own", "shared", "thread")),
                         test::name_of);

TEST_P(RandomRequestsOnSlabs, AreServedFromSmallOnesWithScrubbing) {
    try_seeds("slab:16K,nursery:16K,small_max:272,huge_min:64K,retain:0,scrub:true");
}

TEST_P(RandomRequestsOnSlabs, AreServedFromSmallOnesInALargeNursery) {
    try_seeds("slab:16K,nursery:1M");
}

TEST_P(RandomRequestsOnSlabs, AreServedFromLargeOnes) {
    try_seeds("slab:256K,nursery:1M,retain:1000,arena_threshold:0");
}

}  // namespace
