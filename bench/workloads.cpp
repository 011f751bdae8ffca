// The sizes are such that each workload still has its shape: caches fill, tables rehash, garbage is
// collected.

#include "workloads.h"

#include <unistd.h>

#include <cstdlib>
#include <map>

#include "lua_host.h"
#include "recorded_allocator.h"

#ifndef JEMALLOC_LUA_WORKLOADS
#error "JEMALLOC_LUA_WORKLOADS names the folder of the workloads"
#endif

namespace jemalloc_lua::bench {
namespace {

bool record(const Workload &workload, const std::string &file, std::string &why) {
    const std::unique_ptr<Allocator> base = find_allocator("glibc", why);
    const std::unique_ptr<Heap> heap = base->make_heap();
    Recorder recorder(heap->alloc, heap->ud);
    if (!recorder.open(file.c_str())) {
        why = "cannot write " + file;
        return false;
    }
    const RecordedAllocator allocator(recorder);
    std::string result;
    {
        const std::unique_ptr<State> state = allocator.make_state();
        prepare(state->L, allocator);
        if (!run_file(state->L, workload_path(workload), {std::to_string(workload.medium)}, result)) {
            why = result;
            return false;
        }
    }
    if (recorder.close()) return true;
    why = "cannot write " + file;
    return false;
}

}  // namespace

const std::vector<Workload> &workloads() {
    static const std::vector<Workload> all = {
        {"array_growth", 1000, 4000000}, {"binary_trees", 6, 13},
        {"closures", 500, 8000},         {"coroutines", 1000, 60000},
        {"event_queue", 2500, 120000},   {"ffi_churn", 5000, 800000},
        {"hash_growth", 1000, 100000},   {"json", 10, 200},
        {"log_records", 20500, 100000},  {"lru_cache", 25000, 300000},
        {"peak_idle", 1000, 200000},     {"request_loop", 10, 400},
        {"sparse_matrix", 30, 400},      {"string_buffer", 1000, 4000000},
        {"string_build", 20, 500},       {"template", 40, 1000},
        {"tokeniser", 10, 150},          {"word_index", 30, 2000},
    };
    return all;
}

const Workload *find_workload(const std::string &name) {
    for (const Workload &workload : workloads()) {
        if (workload.name == name) return &workload;
    }
    return nullptr;
}

std::string workload_path(const Workload &workload) {
    return std::string(JEMALLOC_LUA_WORKLOADS "/") + workload.name + ".lua";
}

std::shared_ptr<const Trace> workload_trace(const Workload &workload, std::string &why) {
    static std::map<std::string, std::shared_ptr<const Trace>> known;
    std::shared_ptr<const Trace> &found = known[workload.name];
    if (found != nullptr) return found;
    const char *folder = std::getenv("TMPDIR");
    std::string file = std::string(folder != nullptr ? folder : "/tmp") + "/jemalloc_lua_XXXXXX";
    const int descriptor = mkstemp(file.data());
    if (descriptor < 0) {
        why = "cannot make " + file;
        return nullptr;
    }
    close(descriptor);
    const auto trace = std::make_shared<Trace>();
    if (record(workload, file, why) && read_trace(file, *trace, why)) found = trace;
    unlink(file.c_str());
    return found;
}

}  // namespace jemalloc_lua::bench
