// The Lua workloads in bench/workloads, and the sizes at which they are run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trace.h"

namespace jemalloc_lua::bench {

struct Workload {
    const char *name;
    int small;   // a few milliseconds: for tests
    int medium;  // some ten milliseconds and up to a million requests: for traces
};

const std::vector<Workload> &workloads();

std::string workload_path(const Workload &workload);

// The workload of that name; null where there is none.
const Workload *find_workload(const std::string &name);

// What the workload at its medium size asks of its allocator; recorded at the first call, in this process.
// Null, and the reason, when that fails.
std::shared_ptr<const Trace> workload_trace(const Workload &workload, std::string &why);

}  // namespace jemalloc_lua::bench
