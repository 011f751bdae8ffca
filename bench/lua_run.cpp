// lua_run ALLOCATOR [--record FILE] script.lua [args]
//
// @NAME instead of a script is the workload of that name at its medium size.
// Runs one script once in a fresh process and a fresh state, and prints one line of JSON: its result, the
// time it took (from before the state is made until after it is closed), and what the process used.
// tools/bench and tools/tune start it again and again.

#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "allocators.h"
#include "lua_host.h"
#include "process.h"
#include "recorded_allocator.h"
#include "workloads.h"

using namespace jemalloc_lua::bench;

namespace {

std::string json_string(const std::string &text) {
    std::string out = "\"";
    for (const char c : text) {
        char escape[8];
        if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32) {
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(c));
            out += escape;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

struct Outcome {
    bool ok = false;
    std::string result;
    std::size_t resident_at_end = 0;  // before the state is closed
};

Outcome run(const Allocator &allocator, const std::string &script,
            const std::vector<std::string> &arguments) {
    Outcome outcome;
    const std::unique_ptr<State> state = allocator.make_state();
    if (state == nullptr) {
        outcome.result = "no memory for a state";
        return outcome;
    }
    prepare(state->L, allocator);
    outcome.ok = run_file(state->L, script, arguments, outcome.result);
    outcome.resident_at_end = resident_bytes();
    return outcome;
}

}  // namespace

int main(int argc, char **argv) {
    int next = 1;
    const char *name = next < argc ? argv[next++] : nullptr;
    const char *recording = nullptr;
    if (next + 1 < argc && std::strcmp(argv[next], "--record") == 0) {
        recording = argv[next + 1];
        next += 2;
    }
    if (next >= argc) {
        std::fprintf(stderr, "usage: lua_run ALLOCATOR [--record FILE] script.lua [args]\n");
        return 2;
    }
    std::string script = argv[next++];
    std::vector<std::string> arguments(argv + next, argv + argc);
    if (script.starts_with('@')) {
        const Workload *workload = find_workload(script.substr(1));
        if (workload == nullptr) {
            std::fprintf(stderr, "lua_run: %s: no workload of that name in bench/workloads\n",
                         script.c_str());
            return 2;
        }
        script = workload_path(*workload);
        if (arguments.empty()) arguments.push_back(std::to_string(workload->medium));
    }

    std::string why;
    const std::unique_ptr<Allocator> allocator = find_allocator(name, why);
    if (allocator == nullptr) {
        std::fprintf(stderr, "lua_run: %s: %s\n", name, why.c_str());
        return is_optional(name) ? 3 : 2;
    }
    std::unique_ptr<Heap> heap;
    std::unique_ptr<Recorder> recorder;
    if (recording != nullptr) {
        heap = allocator->make_heap();
        recorder = std::make_unique<Recorder>(heap->alloc, heap->ud);
        if (!recorder->open(recording)) {
            std::perror(recording);
            return 2;
        }
    }

    const std::size_t resident_at_start = resident_bytes();
    const ProcessUse before = process_use();
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = recorder != nullptr ? run(RecordedAllocator(*recorder), script, arguments)
                                                : run(*allocator, script, arguments);
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    const ProcessUse after = process_use();

    if (recorder != nullptr && !recorder->close()) {
        std::perror(recording);
        return 1;
    }
    if (!outcome.ok) {
        std::fprintf(stderr, "lua_run: %s\n", outcome.result.c_str());
        return 1;
    }
    std::printf(
        "{\"allocator\": %s, \"script\": %s, \"result\": %s, \"wall_s\": %.6f, \"user_s\": %.6f, "
        "\"system_s\": %.6f, \"faults\": %ld, \"resident_at_start\": %zu, \"resident_at_end\": %zu, "
        "\"resident_after_close\": %zu, \"peak_resident\": %zu}\n",
        json_string(name).c_str(), json_string(script).c_str(), json_string(outcome.result).c_str(),
        wall.count(), after.user_s - before.user_s, after.system_s - before.system_s,
        after.minor_faults - before.minor_faults + after.major_faults - before.major_faults,
        resident_at_start, outcome.resident_at_end, resident_bytes(), peak_resident_bytes());
    return 0;
}
