// state/* and memory/*: the life of states, and memory that is held. All but state/create are probes in
// processes of their own; their figures become counters.

#include "probe.h"
#include "suites.h"

namespace jemalloc_lua::bench {
namespace {

void probe(benchmark::State &state, const std::string &name, const Allocator &allocator) {
    for (auto _ : state) {
        Figures figures;
        std::string why;
        if (!run_probe(name, allocator.name, figures, why)) return state.SkipWithError(why.c_str());
        for (const auto &[key, figure] : figures) {
            if (key == "seconds") {
                state.SetIterationTime(figure);
            } else {
                state.counters[key] = figure;
            }
        }
    }
}

void register_probes(const std::string &prefix, const Allocators &allocators) {
    for (const std::string &name : probe_names(prefix)) {
        for (const auto &allocator : allocators) {
            benchmark::RegisterBenchmark(
                (name + "/" + allocator->name).c_str(),
                [name, &allocator = *allocator](benchmark::State &state) { probe(state, name, allocator); })
                ->UseManualTime()
                ->Iterations(1)
                ->Unit(benchmark::kMillisecond);
        }
    }
}

void create(benchmark::State &state, const Allocator &allocator, bool libraries) {
    for (auto _ : state) {
        const auto lua = allocator.make_state();
        if (lua == nullptr) return state.SkipWithError("no memory for a state");
        if (libraries) luaL_openlibs(lua->L);
    }
}

void register_create(const std::string &name, const Allocators &allocators, bool libraries) {
    for (const auto &allocator : allocators) {
        benchmark::RegisterBenchmark((name + allocator->name).c_str(), [libraries, &allocator = *allocator](
                                                                           benchmark::State &state) {
            create(state, allocator, libraries);
        })->Unit(benchmark::kMicrosecond);
    }
}

}  // namespace

void register_state(const Allocators &allocators) {
    register_create("state/create/", allocators, false);
    register_create("state/create_openlibs_close/", allocators, true);
    register_probes("state/", allocators);
}

void register_memory(const Allocators &allocators) {
    register_probes("memory/", allocators);
}

}  // namespace jemalloc_lua::bench
