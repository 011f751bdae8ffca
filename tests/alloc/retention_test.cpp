// What a heap keeps of its idle memory, and how much of it returns to the system: the decisions from plain
// figures, then what heaps make of them.

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <random>
#include <string>

#include "policy/purge_budget.h"
#include "policy/retention.h"
#include "support.h"

namespace {

using jemalloc_lua::policy::PurgeBudget;
using test::M;
using test::run;
using test::State;
using test::stats;

constexpr std::uint64_t second_ns = 1000000000;

std::size_t bound(std::size_t peak, double work_s, double wall_s) {
    return PurgeBudget::for_peak(peak) +
           static_cast<std::size_t>(work_s * static_cast<double>(PurgeBudget::per_second_of_work) +
                                    wall_s * static_cast<double>(PurgeBudget::per_second));
}

TEST(PurgeBudget, PaysForTheFirstPeakAtOnce) {
    PurgeBudget budget;
    budget.touched(250 * M);
    EXPECT_TRUE(budget.can_spend(375 * M));
    budget.spend(365 * M);
    EXPECT_FALSE(budget.can_spend(11 * M));
}

TEST(PurgeBudget, PaysForALaterPeakByTime) {
    PurgeBudget budget;
    budget.touched(64 * M);
    budget.spend(96 * M);
    budget.touched(64 * M);
    EXPECT_FALSE(budget.can_spend(1 * M));
    budget.worked(second_ns, second_ns);
    EXPECT_TRUE(budget.can_spend(36 * M));
    EXPECT_FALSE(budget.can_spend(37 * M));
    budget.worked(second_ns * 1000000, second_ns * 1000000);
    EXPECT_TRUE(budget.can_spend(96 * M));
    EXPECT_FALSE(budget.can_spend(96 * M + 1)) << "what is saved is bounded by the peak";
}

// Programs that grow and fall at random, some by all that they have at each step, and return what they can.
TEST(PurgeBudget, HoldsItsBoundForAnyProgram) {
    std::mt19937_64 random(20261130);
    for (int program = 0; program < 2000; ++program) {
        PurgeBudget budget;
        const std::size_t largest = (std::size_t{1} << (random() % 12)) * M;
        const std::uint64_t longest_ns = std::uint64_t{1} << (10 + random() % 24);
        std::size_t held = 0, dirty = 0, peak = 0, purged = 0;
        double work_s = 0, wall_s = 0;
        for (int step = 0; step < 500; ++step) {
            const std::size_t wanted = random() % 4 == 0 ? random() % largest : largest * (random() % 2);
            if (wanted > held) {
                dirty -= std::min(dirty, wanted - held);
            } else {
                dirty += held - wanted;
            }
            held = wanted;
            peak = std::max(peak, held + dirty);
            const std::uint64_t wall_ns = random() % longest_ns;
            const std::uint64_t work_ns = wall_ns / (1 + random() % 3);
            work_s += static_cast<double>(work_ns) / second_ns;
            wall_s += static_cast<double>(wall_ns) / second_ns;
            budget.touched(held + dirty);
            budget.worked(work_ns, wall_ns);
            if (budget.can_spend(dirty)) {
                budget.spend(dirty);
                purged += dirty;
                dirty = 0;
            }
            ASSERT_LE(purged, bound(peak, work_s, wall_s)) << "program " << program << ", step " << step;
        }
    }
}

TEST(Retention, BoundsWhatIsIdleAndDirty) {
    using namespace jemalloc_lua::policy;
    std::mt19937_64 random(1);
    for (int i = 0; i < 100000; ++i) {
        const PageUse use{random() % (64 * M), random() % (64 * M), random() % (64 * M)};
        const auto retain = static_cast<unsigned>(random() % 300);
        const Verdict verdict = after_free(use, retain);
        const std::size_t allowed = std::max(use.live / 100 * retain, min_kept);
        if (verdict.release != 0) {
            ASSERT_EQ(use.idle - verdict.release, allowed);
        } else if (!verdict.purge) {
            ASSERT_LE(use.idle + use.dirty, allowed + purge_step);
        }
    }
}

// ---- Heaps

double now_s(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / second_ns;
}

class Retained : public testing::TestWithParam<std::string> {
  protected:
    // Rounds in which 12 MB in blocks of 3 KB, or of 300 KB, are made, dropped and collected.
    static std::string rounds(int count, int block) {
        return "for round = 1, " + std::to_string(count) + " do local t = {} for i = 1, 12e6 / " +
               std::to_string(block) + " do t[i] = i .. ('x'):rep(" + std::to_string(block) +
               ") end t = nil collectgarbage() end";
    }
};

INSTANTIATE_TEST_SUITE_P(, Retained,
                         testing::Values("arena:auto", "arena:own", "harden:true", "front:direct"),
                         [](const auto &info) {
                             std::string name = info.param;
                             std::replace(name.begin(), name.end(), ':', '_');
                             return name;
                         });

TEST_P(Retained, IsWhatEachCollectionFreesAndTheNextRoundNeeds) {
    for (const int block : {300, 3000, 20000, 300000}) {
        const State one = test::state(GetParam());
        const double work = now_s(CLOCK_THREAD_CPUTIME_ID);
        const double wall = now_s(CLOCK_MONOTONIC);
        EXPECT_EQ("", run(one.get(), rounds(20, block)));
        const double work_s = now_s(CLOCK_THREAD_CPUTIME_ID) - work;
        const double wall_s = now_s(CLOCK_MONOTONIC) - wall;
        // The clocks tick, and what the shared arena has kept goes as the heap migrates.
        EXPECT_LE(stats(one.get()).purged, bound(stats(one.get()).peak + 16 * M, work_s, wall_s + 0.05))
            << block;
    }
}

TEST_P(Retained, IsNotMuchOfAFirstPeak) {
    const State one = test::state(GetParam());
    EXPECT_EQ("", run(one.get(), "t = {} for i = 1, 2e5 do t[i] = {i, {}, 'x' .. i} end"));
    const std::size_t at_peak = stats(one.get()).footprint;
    EXPECT_EQ("", run(one.get(), "t = nil collectgarbage()"));
    EXPECT_GE(stats(one.get()).purged, at_peak / 4 * 3);
}

TEST_P(Retained, IsLittleWithRetain0) {
    const State one = test::state(GetParam() + ",retain:0");
    EXPECT_EQ("", run(one.get(), rounds(20, 3000)));
    EXPECT_GE(stats(one.get()).purged, 20 * 3 * M);
}

}  // namespace
