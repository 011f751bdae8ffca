// threads/*: a state per thread, each running the same program; programs finished per second.

#include <atomic>
#include <thread>

#include "lua_host.h"
#include "suites.h"
#include "workloads.h"

namespace jemalloc_lua::bench {
namespace {

bool run_states(const Allocator &allocator, const Workload &workload, int threads) {
    std::atomic<bool> ok = true;
    const auto body = [&] {
        const auto state = allocator.make_state();
        if (state == nullptr) {
            ok = false;
            return;
        }
        prepare(state->L, allocator);
        std::string result;
        if (!run_file(state->L, workload_path(workload), {std::to_string(workload.medium)}, result))
            ok = false;
    };
    std::vector<std::jthread> running;
    for (int i = 0; i < threads; ++i) running.emplace_back(body);
    running.clear();
    return ok;
}

}  // namespace

void register_threads(const Allocators &allocators) {
    for (const Workload &workload : workloads()) {
        const std::string name = workload.name;
        if (name != "binary_trees" && name != "json" && name != "event_queue") continue;
        for (const int threads : {1, 2}) {
            for (const auto &allocator : allocators) {
                benchmark::RegisterBenchmark(
                    ("threads/" + name + "/" + std::to_string(threads) + "/" + allocator->name).c_str(),
                    [&workload, threads, &allocator = *allocator](benchmark::State &state) {
                        for (auto _ : state) {
                            if (!run_states(allocator, workload, threads))
                                return state.SkipWithError("the program failed");
                        }
                        state.SetItemsProcessed(threads * state.iterations());
                    })
                    ->UseRealTime()
                    ->Unit(benchmark::kMillisecond);
            }
        }
    }
}

}  // namespace jemalloc_lua::bench
