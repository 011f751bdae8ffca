// replay FILE [--rounds N] [--json] [ALLOCATOR…]
//
// Replays a recording on each allocator, interleaved, and prints ns per request: what the first replay cost
// in a fresh heap, then the minimum and the median of the others, in a warm heap beside ballast, and the
// minimum net of the floor.

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "allocators.h"
#include "process.h"
#include "replay.h"
#include "samples.h"
#include "workloads.h"

using namespace jemalloc_lua::bench;

namespace {

struct Subject {
    std::string name;
    std::unique_ptr<Allocator> allocator;  // null for the floor
    std::unique_ptr<Heap> heap;
    std::unique_ptr<Ballast> ballast;
    double cold = 0;         // ns per request of the first replay
    long cold_faults = 0;    // page faults in it
    long warm_faults = 0;    // and in one of the later ones, on average
    std::vector<double> ns;  // per request, of each later replay
};

int usage(const char *message) {
    std::fprintf(stderr, "replay: %s\nusage: replay FILE [--rounds N] [--json] [ALLOCATOR...]\n", message);
    return 2;
}

bool parse_rounds(const char *text, int &rounds) {
    const std::string value = text;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), rounds);
    return error == std::errc() && end == value.data() + value.size() && rounds > 0;
}

// A file, or @NAME of a workload.
bool load(const std::string &file, Trace &trace, std::string &why) {
    if (!file.starts_with('@')) return read_trace(file, trace, why);
    const Workload *workload = find_workload(file.substr(1));
    if (workload == nullptr) {
        why = "no workload of that name in bench/workloads";
        return false;
    }
    const auto recorded = workload_trace(*workload, why);
    if (recorded != nullptr) trace = *recorded;
    return recorded != nullptr;
}

template <class Run>
double time_ns(std::size_t requests, const Run &run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    return taken.count() / static_cast<double>(requests);
}

double net_minimum(const Subject &subject, const Subject &floor) {
    return std::max(minimum(subject.ns) - minimum(floor.ns), 0.0);
}

void print_table(const std::vector<Subject> &subjects, const Trace &trace, const std::string &file) {
    std::printf("%s: %zu requests, %u blocks and %.1f MB alive at most%s\n", file.c_str(),
                trace.requests.size(), trace.slots, static_cast<double>(trace.peak_bytes) * 1e-6,
                trace.cut_short ? " (a recording cut short; its last whole record is the end)" : "");
    std::size_t width = 9;
    for (const Subject &subject : subjects) width = std::max(width, subject.name.size());
    const int w = static_cast<int>(width);
    std::printf("ns per request; ratios to builtin; net: less the floor\n");
    std::printf("%-*s %7s %9s %7s %7s %7s %7s %7s %7s\n", w, "allocator", "cold", "(faults)", "min", "median",
                "ratio", "net", "ratio", "spread");
    const Subject &floor = subjects.back();
    const Subject *builtin = nullptr;
    for (const Subject &subject : subjects) {
        if (subject.name == "builtin") builtin = &subject;
    }
    const auto ratio = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
    for (const Subject &subject : subjects) {
        const Subject &base = builtin != nullptr ? *builtin : subjects.front();
        std::printf("%-*s %7.2f %9ld %7.2f %7.2f %7.2f %7.2f %7.2f %6.1f%%%s\n", w, subject.name.c_str(),
                    subject.cold, subject.cold_faults, minimum(subject.ns), median(subject.ns),
                    ratio(median(subject.ns), median(base.ns)), net_minimum(subject, floor),
                    ratio(net_minimum(subject, floor), net_minimum(base, floor)), 100 * spread(subject.ns),
                    disagreement(subject.ns) > noisy ? "  noisy" : "");
    }
}

// Names hold no character that JSON escapes: they are options or words.
void print_json(const std::vector<Subject> &subjects, const Trace &trace) {
    std::printf("{\"requests\": %zu, \"peak_bytes\": %zu, \"cut_short\": %s, \"allocators\": [",
                trace.requests.size(), trace.peak_bytes, trace.cut_short ? "true" : "false");
    const char *separator = "";
    for (const Subject &subject : subjects) {
        std::printf(
            "%s\n{\"name\": \"%s\", \"cold_ns\": %.4f, \"cold_faults\": %ld, \"warm_faults\": %ld, \"ns\": [",
            separator, subject.name.c_str(), subject.cold, subject.cold_faults, subject.warm_faults);
        for (std::size_t i = 0; i < subject.ns.size(); ++i)
            std::printf("%s%.4f", i ? ", " : "", subject.ns[i]);
        std::printf("]}");
        separator = ",";
    }
    std::printf("]}\n");
}

}  // namespace

int main(int argc, char **argv) {
    std::string file;
    std::vector<std::string> names;
    int rounds = 11;
    bool json = false;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "--json") {
            json = true;
        } else if (argument == "--rounds") {
            if (++i == argc || !parse_rounds(argv[i], rounds))
                return usage("--rounds takes a number above 0");
        } else if (argument.starts_with("--")) {
            return usage(("unknown option " + argument).c_str());
        } else if (file.empty()) {
            file = argument;
        } else {
            names.push_back(argument);
        }
    }
    if (file.empty()) return usage("which recording?");
    Trace trace;
    std::string why;
    if (!load(file, trace, why)) {
        std::fprintf(stderr, "replay: %s: %s\n", file.c_str(), why.c_str());
        return 2;
    }
    if (trace.requests.empty()) {
        std::fprintf(stderr, "replay: %s: the recording holds no requests\n", file.c_str());
        return 2;
    }
    if (names.empty()) names = standard_allocators();

    std::vector<Subject> subjects;
    for (const std::string &name : names) {
        Subject subject;
        subject.name = name;
        subject.allocator = find_allocator(name, why);
        if (subject.allocator == nullptr) {
            std::fprintf(stderr, "replay: %s %s: %s\n", is_optional(name) ? "skipped" : "cannot use",
                         name.c_str(), why.c_str());
            if (!is_optional(name)) return 2;
            continue;
        }
        subject.heap = subject.allocator->make_heap();
        subjects.push_back(std::move(subject));
    }
    subjects.emplace_back().name = "floor";

    Replay replay(trace);
    Floor floor(trace);
    // The first replay is the cold one; the second, beside the ballast, warms the heap.
    for (int round = -1; round <= rounds; ++round) {
        for (Subject &subject : subjects) {
            bool served = true;
            const long faults = process_use().minor_faults;
            const double ns = time_ns(trace.requests.size(), [&] {
                subject.heap != nullptr ? void(served = replay.run(*subject.heap)) : floor.run();
            });
            if (!served) {
                std::fprintf(stderr, "replay: %s refused a request\n", subject.name.c_str());
                return 1;
            }
            if (round < 0) {
                subject.cold = ns;
                subject.cold_faults = process_use().minor_faults - faults;
                if (subject.heap != nullptr)
                    subject.ballast = std::make_unique<Ballast>(*subject.heap, trace.peak_bytes);
            } else if (round > 0) {
                subject.ns.push_back(ns);
                subject.warm_faults += (process_use().minor_faults - faults) / rounds;
            }
        }
    }
    if (json) {
        print_json(subjects, trace);
    } else {
        print_table(subjects, trace, file);
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::fprintf(stderr, "replay: cannot write the figures: %s\n", std::strerror(errno));
        return 1;
    }
    return 0;
}
