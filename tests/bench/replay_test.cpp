// Allocators, replays and workloads: every allocator serves every workload with the same result.

#include "replay.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "lua_host.h"
#include "samples.h"
#include "workloads.h"

namespace jemalloc_lua::bench {
namespace {

std::vector<std::unique_ptr<Allocator>> all_allocators() {
    std::vector<std::unique_ptr<Allocator>> found;
    std::vector<std::string> names = standard_allocators();
    names.insert(names.end(),
                 {"default", "front:checked", "front:slab,arena:own", "front:direct,arena:thread"});
    for (const std::string &name : names) {
        std::string why;
        auto allocator = find_allocator(name, why);
        if (allocator == nullptr && is_optional(name)) continue;
        EXPECT_NE(allocator, nullptr) << name << ": " << why;
        if (allocator != nullptr) found.push_back(std::move(allocator));
    }
    return found;
}

class WorkloadOnEveryAllocator : public testing::TestWithParam<Workload> {};

TEST_P(WorkloadOnEveryAllocator, HasTheSameResult) {
    const Workload &workload = GetParam();
    std::set<std::string> results;
    for (const auto &allocator : all_allocators()) {
        const auto state = allocator->make_state();
        ASSERT_NE(state, nullptr) << allocator->name;
        prepare(state->L, *allocator);
        std::string result;
        ASSERT_TRUE(run_file(state->L, workload_path(workload), {std::to_string(workload.small)}, result))
            << allocator->name << ": " << result;
        EXPECT_EQ(result.rfind(std::string(workload.name) + " ", 0), 0u) << result;
        results.insert(result);
    }
    EXPECT_EQ(results.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Workloads, WorkloadOnEveryAllocator, testing::ValuesIn(workloads()),
                         [](const auto &instance) { return std::string(instance.param.name); });

TEST(Workloads, AFailingScriptIsAnErrorAndNotAResult) {
    std::string why;
    const auto allocator = find_allocator("default", why);
    const auto state = allocator->make_state();
    prepare(state->L, *allocator);
    std::string result;
    EXPECT_FALSE(run_file(state->L, "/nonexistent.lua", {}, result));
    EXPECT_NE(result.find("/nonexistent.lua"), std::string::npos) << result;
}

Trace small_trace() {
    Trace trace;
    for (std::uint32_t i = 0; i < 100; ++i) trace.requests.emplace_back(Op::malloc, i, 0, 16 + i * 50);
    for (std::uint32_t i = 0; i < 100; ++i)
        trace.requests.emplace_back(Op::realloc, i, 16 + i * 50, 9000 + i * 16);
    for (std::uint32_t i = 0; i < 100; ++i) trace.requests.emplace_back(Op::free, i, 9000 + i * 16, 0);
    trace.slots = 100;
    return trace;
}

TEST(Replays, RunOnEveryAllocatorAgainAndAgain) {
    const Trace trace = small_trace();
    for (const auto &allocator : all_allocators()) {
        const auto heap = allocator->make_heap();
        Replay replay(trace);
        EXPECT_TRUE(replay.run(*heap)) << allocator->name;
        EXPECT_TRUE(replay.run(*heap)) << allocator->name;
    }
    Floor floor(trace);
    floor.run();
    floor.run();
}

TEST(Replays, StopWhereTheAllocatorRefusesAndFreeEverything) {
    const Trace trace = small_trace();
    std::string why;
    const auto allocator = find_allocator("front:direct,limit:400K", why);
    ASSERT_NE(allocator, nullptr) << why;
    const auto heap = allocator->make_heap();
    Replay replay(trace);
    EXPECT_FALSE(replay.run(*heap));
    EXPECT_FALSE(replay.run(*heap));  // as far as the first time, so nothing was left behind
    void *block = heap->request(nullptr, 0, 300000);
    ASSERT_NE(block, nullptr);
    heap->request(block, 300000, 0);
}

TEST(Allocators, OfOtherProjectsLeaveMallocAlone) {
    void *const before = dlsym(RTLD_DEFAULT, "malloc");
    all_allocators();
    EXPECT_EQ(dlsym(RTLD_DEFAULT, "malloc"), before);
}

TEST(Allocators, WithWrongNamesOrOptionsSayWhatWouldBeRight) {
    std::string why;
    EXPECT_EQ(find_allocator("dlmalloc", why), nullptr);
    EXPECT_NE(why.find("mimalloc"), std::string::npos) << why;
    EXPECT_EQ(find_allocator("front:round", why), nullptr);
    EXPECT_NE(why.find("front"), std::string::npos) << why;
}

TEST(Samples, HaveMinimumMedianAndSpread) {
    const std::vector<double> samples = {4, 1, 3, 2, 5};
    EXPECT_DOUBLE_EQ(minimum(samples), 1);
    EXPECT_DOUBLE_EQ(median(samples), 3);
    EXPECT_DOUBLE_EQ(spread(samples), (4.0 - 2.0) / 3);
    EXPECT_DOUBLE_EQ(median({1, 2}), 1.5);
    EXPECT_DOUBLE_EQ(median({}), 0);
}

TEST(Samples, DisagreeWhereEvenAndOddRoundsDo) {
    EXPECT_DOUBLE_EQ(disagreement({1, 2, 1, 2}), 1);
    EXPECT_DOUBLE_EQ(disagreement({1, 1, 1, 1}), 0);
    EXPECT_DOUBLE_EQ(disagreement({1}), 0);
}

}  // namespace
}  // namespace jemalloc_lua::bench
