// A heap against the model of model.h: random requests as Lua makes them.
//
// JEMALLOC_LUA_MODEL_OPS sets the number of operations for each front end, arena and seed, and
// JEMALLOC_LUA_MODEL_SEEDS the number of seeds; tools/model sets both.

#include "model.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "check/verified.h"
#include "support.h"

namespace {

using test::K;
using test::M;

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr std::size_t limit = 24 * M;

class RandomProgram {
  public:
    RandomProgram(jemalloc_lua_heap *heap, std::uint64_t seed) : model_(heap, M), random_(seed) {
        model_.set_limit(limit);
    }

    void run(std::uint64_t operations) {
        // Phases as of a program: it builds up, works on, lets go; and sometimes runs into its limit.
        while (operations > 0 && model_.problem().empty()) {
            const std::uint64_t length = std::min<std::uint64_t>(operations, 1000 + random_() % 20000);
            operations -= length;
            const unsigned bias = static_cast<unsigned>(random_() % 100);
            for (std::uint64_t i = 0; i < length; ++i) step(bias);
            model_.check_account();
            if (model_.stats().footprint > limit) model_.wrong("the footprint is above the limit");
            if (random_() % 8 == 0) model_.trim();
            if (random_() % 8 == 0) empty();
        }
        EXPECT_EQ("", model_.problem());
    }

    // Every other old size is wrong.
    void lie() {
        model_.lie([this](std::size_t size) {
            switch (random_() % 8) {
                case 0:
                    return std::size_t{0};
                case 1:
                    return size + 1 + random_() % 64;
                case 2:
                    return random_() % (size + 1);
                case 3:
                    return some_size();
                default:
                    return size;
            }
        });
    }

    std::uint64_t refusals() const { return model_.refusals(); }

  private:
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

    std::size_t some_block() { return random_() % model_.blocks(); }

    void step(unsigned bias) {
        const unsigned what = static_cast<unsigned>(random_() % 100);
        const std::uint64_t refusals = model_.refusals();
        if (model_.blocks() == 0 || what < 20 + bias * 4 / 10) {
            model_.obtain(some_size(), random_() % 10);
        } else if (what < 75) {
            model_.free(some_block());
        } else {
            const std::size_t index = some_block();
            const std::size_t doubled = std::min(2 * model_.size_of(index), 4 * M);
            model_.resize(index, random_() % 2 == 0 ? some_size() : doubled);
        }
        if (model_.refusals() == refusals) return;
        for (int i = 0; i < 200 && model_.blocks() > 0 && model_.problem().empty(); ++i)
            model_.free(some_block());
    }

    void empty() {
        model_.free_all();
        model_.trim();
        if (model_.problem().empty() && model_.stats().footprint > M + 16 * K)
            model_.wrong("an empty heap above 1 MiB");
    }

    test::Model model_;
    std::mt19937_64 random_;
};

// What a long run has done, for tools/model.
class Tally : public testing::Environment {
  public:
    void TearDown() override {
        if (std::getenv("JEMALLOC_LUA_MODEL_OPS") == nullptr) return;
        std::printf("model: %ju runs, %ju operations, %ju refusals\n", static_cast<std::uintmax_t>(runs),
                    static_cast<std::uintmax_t>(operations), static_cast<std::uintmax_t>(refusals));
    }

    std::uint64_t runs = 0;
    std::uint64_t operations = 0;
    std::uint64_t refusals = 0;
};
auto *const tally = static_cast<Tally *>(testing::AddGlobalTestEnvironment(new Tally));

class RandomRequests : public test::FrontAndArena {
  protected:
    void try_seeds(const std::string &more, bool lying = false) {
        const std::uint64_t operations = setting("JEMALLOC_LUA_MODEL_OPS", test::sanitized ? 20000 : 100000);
        const std::uint64_t seeds = setting("JEMALLOC_LUA_MODEL_SEEDS", 2);
        for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) {
            SCOPED_TRACE("seed " + std::to_string(seed));
            const test::Heap under_test = heap(more);
            RandomProgram program(under_test.get(), seed);
            if (lying) program.lie();
            program.run(operations);
            tally->runs += 1;
            tally->operations += operations;
            tally->refusals += program.refusals();
        }
    }
};
ON_EVERY_FRONT_AND_ARENA(RandomRequests);

TEST_P(RandomRequests, AreServedAsTheModelSays) {
    try_seeds("");
}

// As LuaJIT's own allocator does. A hardened heap and front:checked end the process instead, and so do heaps
// that a tool watches.
TEST_P(RandomRequests, MayNameWrongOldSizes) {
    if (front() == "harden" || front() == "checked") GTEST_SKIP() << "wrong sizes are reported there";
    jemalloc_lua::let_tools_watch(false);
    try_seeds("", true);
    if (front() == "slab") try_seeds("slab:16K,nursery:1M,small_max:528,scrub:true", true);
    jemalloc_lua::let_tools_watch(true);
}

// Options of front:slab alone.
class RandomRequestsOnSlabs : public RandomRequests {};
INSTANTIATE_TEST_SUITE_P(, RandomRequestsOnSlabs,
                         testing::Combine(testing::Values<std::string>("slab", "harden"),
                                          testing::Values<std::string>("auto", "own", "shared", "thread")),
                         test::name_of);

TEST_P(RandomRequestsOnSlabs, AreServedFromSmallOnesWithScrubbing) {
    try_seeds("slab:16K,nursery:16K,small_max:528,huge_min:64K,retain:0,scrub:true");
}

TEST_P(RandomRequestsOnSlabs, AreServedFromSmallOnesInALargeNursery) {
    try_seeds("slab:16K,nursery:1M");
}

TEST_P(RandomRequestsOnSlabs, AreServedFromLargeOnes) {
    try_seeds("slab:256K,nursery:1M,retain:1000,arena_threshold:0");
}

}  // namespace
