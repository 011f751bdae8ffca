// lua/*: whole programs, each in a fresh state, at their medium size. The result is compared with that of
// LuaJIT's own allocator. tools/bench runs them at full size in fresh processes instead.

#include <map>

#include "lua_host.h"
#include "suites.h"
#include "workloads.h"

namespace jemalloc_lua::bench {
namespace {

bool run(const Allocator &allocator, const Workload &workload, std::string &result) {
    const auto state = allocator.make_state();
    if (state == nullptr) {
        result = "no memory for a state";
        return false;
    }
    prepare(state->L, allocator);
    return run_file(state->L, workload_path(workload), {std::to_string(workload.medium)}, result);
}

const std::string &expected(const Workload &workload) {
    static std::map<std::string, std::string> known;
    std::string &result = known[workload.name];
    std::string why;
    if (result.empty()) run(*find_allocator("builtin", why), workload, result);
    return result;
}

void program(benchmark::State &state, const Allocator &allocator, const Workload &workload) {
    const std::string &right = expected(workload);
    for (auto _ : state) {
        std::string result;
        if (!run(allocator, workload, result) || result != right)
            return state.SkipWithError(("wrong result: " + result).c_str());
    }
}

}  // namespace

void register_lua(const Allocators &allocators) {
    for (const Workload &workload : workloads()) {
        for (const auto &allocator : allocators) {
            benchmark::RegisterBenchmark(
                (std::string("lua/") + workload.name + "/" + allocator->name).c_str(),
                [&workload, &allocator = *allocator](benchmark::State &state) {
                    program(state, allocator, workload);
                })
                ->Unit(benchmark::kMillisecond);
        }
    }
}

}  // namespace jemalloc_lua::bench
