// jemalloc_lua_bench [--allocators=A;B;…] [Google Benchmark's options]
//
// All suites. A list of options has commas in it, so allocators are separated by semicolons.

#include <cstdio>
#include <cstring>

#include "probe.h"
#include "suites.h"

using namespace jemalloc_lua::bench;

namespace {

constexpr const char *allocators_option = "--allocators=";

std::vector<std::string> split(const std::string &text) {
    std::vector<std::string> parts;
    std::size_t at = 0;
    while (at <= text.size()) {
        const std::size_t end = std::min(text.find(';', at), text.size());
        if (end > at) parts.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

// Takes our own option out of the arguments.
std::vector<std::string> chosen_allocators(int &argc, char **argv) {
    for (int i = 1; i < argc; ++i) {
        if (std::strncmp(argv[i], allocators_option, std::strlen(allocators_option)) != 0) continue;
        std::vector<std::string> names = split(argv[i] + std::strlen(allocators_option));
        std::memmove(argv + i, argv + i + 1, static_cast<std::size_t>(argc - i) * sizeof *argv);
        --argc;
        return names;
    }
    return standard_allocators();
}

}  // namespace

int main(int argc, char **argv) {
    if (argc == 4 && std::strcmp(argv[1], "--probe") == 0) return probe_main(argv[2], argv[3]);
    Allocators allocators;
    for (const std::string &name : chosen_allocators(argc, argv)) {
        std::string why;
        auto allocator = find_allocator(name, why);
        if (allocator != nullptr) {
            allocators.push_back(std::move(allocator));
            continue;
        }
        std::fprintf(stderr, "%s %s: %s\n", is_optional(name) ? "skipped" : "cannot use", name.c_str(),
                     why.c_str());
        if (!is_optional(name)) return 2;
    }
    // Many short repetitions tell more than few long ones; an option given by the user comes later and wins.
    std::string min_time = "--benchmark_min_time=0.05";
    std::vector<char *> arguments(argv, argv + argc);
    arguments.insert(arguments.begin() + 1, min_time.data());
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
    register_op(allocators);
    register_trace(allocators);
    register_lua(allocators);
    register_state(allocators);
    register_memory(allocators);
    register_threads(allocators);
    register_binding();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
