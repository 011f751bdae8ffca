// trace/*: what each workload asked of its allocator, replayed in a warm heap (the first replay is not
// timed, and ballast stays alive in the others), and the floor: the same with every address known beforehand.

#include "replay.h"
#include "suites.h"
#include "workloads.h"

namespace jemalloc_lua::bench {
namespace {

template <class Run>
void measure(benchmark::State &state, const Trace &trace, const Run &run) {
    for (auto _ : state) run();
    const auto requests = static_cast<std::int64_t>(trace.requests.size());
    state.SetItemsProcessed(requests * state.iterations());
    state.counters["peak_bytes"] = static_cast<double>(trace.peak_bytes);
}

void on_allocator(benchmark::State &state, const Workload &workload, const Allocator &allocator) {
    std::string why;
    const auto trace = workload_trace(workload, why);
    if (trace == nullptr) return state.SkipWithError(why.c_str());
    const auto heap = allocator.make_heap();
    Replay replay(*trace);
    replay.run(*heap);
    const Ballast ballast(*heap, trace->peak_bytes);
    measure(state, *trace, [&] { replay.run(*heap); });
}

void on_floor(benchmark::State &state, const Workload &workload) {
    std::string why;
    const auto trace = workload_trace(workload, why);
    if (trace == nullptr) return state.SkipWithError(why.c_str());
    Floor floor(*trace);
    floor.run();
    measure(state, *trace, [&] { floor.run(); });
}

}  // namespace

void register_trace(const Allocators &allocators) {
    for (const Workload &workload : workloads()) {
        const std::string name = std::string("trace/") + workload.name + "/";
        for (const auto &allocator : allocators) {
            benchmark::RegisterBenchmark((name + allocator->name).c_str(), [&workload,
                                                                            &allocator = *allocator](
                                                                               benchmark::State &state) {
                on_allocator(state, workload, allocator);
            })->Unit(benchmark::kMillisecond);
        }
        benchmark::RegisterBenchmark((name + "floor").c_str(), [&workload](benchmark::State &state) {
            on_floor(state, workload);
        })->Unit(benchmark::kMillisecond);
    }
}

}  // namespace jemalloc_lua::bench
