// Runs programs out of memory: with the first, the second, the third ... request refused, until they succeed.
//
// Each row of the table, a program on a front end with or without the JIT compiler, has a worker process, and
// within it each point of refusal a child, so that a crash costs one trial and is counted. A child goes
// through all n in a loop. Where the process itself must be new, since jemalloc keeps what it got (the points
// mmap, arena and tcache), each n has a child of its own.

#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "trial.h"

namespace {

using oom::FailedRequest;
using oom::Point;
using oom::Program;
using oom::Refusal;
using oom::Setting;
using oom::Trial;

constexpr long hang_seconds = 2;  // of the processor, for one trial, which takes milliseconds
constexpr std::uint64_t max_crashes = 10;

struct Arguments {
    const char *program = nullptr;
    const char *front = nullptr;
    const char *point = nullptr;
    const char *jit = nullptr;
    bool lasting = false;
    std::uint64_t at = 0;
    std::uint64_t every = 1;
    unsigned jobs = 1;
};

struct PointName {
    const char *name;
    Point point;
    bool fresh;  // needs a process that has not run a state yet
};

constexpr PointName points[] = {
    {"request", Point::request, false}, {"jemalloc", Point::jemalloc, false}, {"mmap", Point::mmap, true},
    {"mremap", Point::mremap, false},   {"arena", Point::arena, true},        {"tcache", Point::tcache, true},
};

// In memory that a worker and its children share.
struct Counts {
    std::uint64_t n;  // of the trial under way
    FailedRequest failed_request;
    std::uint64_t refused;
    std::uint64_t leaks;
    std::uint64_t wrong;
    std::uint64_t crashes;
    std::uint64_t luajit;  // crashes and wrong errors that LuaJIT has on malloc() as well
    bool done;
};

struct Row {
    const Program *program;
    const Setting *setting;
    bool jit;
    Counts counts;
};

// Ends the process by a signal if it computes for longer than any trial does.
void limit_time() {
    const itimerval timer = {{0, 0}, {hang_seconds, 0}};
    setitimer(ITIMER_PROF, &timer, nullptr);
}

void note(const Trial &trial, const PointName &point, Refusal refusal, const char *what) {
    std::fprintf(stderr, "oom: %s on %s, jit %s, %s %llu%s: %s\n", trial.name.c_str() + 1, trial.conf.c_str(),
                 trial.jit ? "on" : "off", point.name, static_cast<unsigned long long>(refusal.nth),
                 refusal.lasting ? " and on" : "", what);
}

// How a trial on malloc() ends, in a child: its exit status is what `judge` makes of the outcome.
template <class F>
int status_on_malloc(const Trial &trial, Refusal refusal, F &&judge) {
    const pid_t child = fork();
    if (child == 0) {
        limit_time();
        oom::failed_request = nullptr;
        _exit(judge(trial.on_malloc().run(refusal)));
    }
    int status = 0;
    return child < 0 || waitpid(child, &status, 0) != child ? -1 : status;
}

// Whether LuaJIT does no better on malloc() with the same of its requests refused, or one close by: what is
// on its stack differs with addresses and from run to run.
bool fails_close_by(const Trial &trial, std::uint64_t failed, bool lasting) {
    constexpr std::uint64_t around = 40;
    const auto is_wrong = [](const Trial::Outcome &outcome) { return outcome.wrong.empty() ? 0 : 1; };
    for (std::uint64_t i = 0; i <= 2 * around; ++i) {  // n, n + 1, n - 1, n + 2 ...
        const std::uint64_t n = failed + (i % 2 == 1 ? (i + 1) / 2 : -(i / 2));
        if (n == 0 || n > failed + around) continue;
        if (status_on_malloc(trial, {Point::request, n, lasting}, is_wrong) != 0) return true;
    }
    return false;
}

// Whether LuaJIT makes the same wrong error on malloc() of a refusal of such a block. What the compiler is at
// by then differs with addresses too, so it is made to begin sooner and later.
bool compiler_fails(Trial trial, std::size_t size, bool lasting, const std::string &wrong) {
    constexpr int last_hotloop = 60;
    constexpr std::uint64_t most = 100;
    constexpr int same = 1;
    constexpr int none_refused = 2;
    const auto compare = [&](const Trial::Outcome &outcome) {
        if (outcome.wrong == wrong) return same;
        return outcome.refused == 0 ? none_refused : 0;
    };
    for (trial.hotloop = 1; trial.hotloop <= last_hotloop; ++trial.hotloop) {
        for (std::uint64_t n = 1; n <= most; ++n) {
            const int status = status_on_malloc(trial, {Point::request, n, lasting, size}, compare);
            if (WIFEXITED(status) && WEXITSTATUS(status) == same) return true;
            if (WIFEXITED(status) && WEXITSTATUS(status) == none_refused) break;
        }
    }
    return false;
}

// Whether LuaJIT alone is to blame. `wrong` is the error, "" for a crash.
bool is_luajits_own(const Trial &trial, const FailedRequest &failed, bool lasting, const std::string &wrong) {
    if (failed.number == 0) return false;
    if (fails_close_by(trial, failed.number, lasting)) return true;
    // A crash in compiled code comes where that code happens to be: it is made to begin elsewhere too.
    Trial other = trial;
    for (other.hotloop = 1; trial.jit && wrong.empty() && other.hotloop <= 30; ++other.hotloop) {
        if (fails_close_by(other, failed.number, lasting)) return true;
    }
    return trial.jit && failed.size != 0 && !wrong.empty() &&
           compiler_fails(trial, failed.size, lasting, wrong);
}

void judge(const Trial &trial, const PointName &point, Refusal refusal, const Trial::Outcome &outcome,
           const Trial::Outcome &clean, Counts *counts) {
    counts->refused += outcome.refused;
    if (!outcome.wrong.empty() &&
        is_luajits_own(trial, counts->failed_request, refusal.lasting, outcome.wrong)) {
        ++counts->luajit;
    } else if (!outcome.wrong.empty()) {
        ++counts->wrong;
        note(trial, point, refusal, outcome.wrong.c_str());
    }
    // Records of checked and hardened heaps grow by doubling, and are counted to the byte or not at all.
    const bool records = trial.options.front == JEMALLOC_LUA_FRONT_CHECKED || trial.options.harden != 0;
    const bool uncounted = !records && outcome.uncounted > clean.uncounted;
    if (uncounted || outcome.left > clean.left) {
        ++counts->leaks;
        char text[160];
        std::snprintf(text, sizeof text,
                      "%td bytes left at the end (%td in a clean run), %td uncounted (%td)", outcome.left,
                      clean.left, outcome.uncounted, clean.uncounted);
        note(trial, point, refusal, text);
    }
}

// All n from counts->n on, in this process.
void go_through(const Trial &trial, const PointName &point, bool lasting, std::uint64_t every,
                Counts *counts) {
    trial.run({});  // makes the arenas
    const Trial::Outcome clean = trial.run({});
    if (!clean.wrong.empty()) note(trial, point, {}, clean.wrong.c_str());
    for (;; counts->n += every) {
        limit_time();
        const Refusal refusal{point.point, counts->n, lasting};
        counts->failed_request = {};
        const Trial::Outcome outcome = trial.run(refusal);
        if (outcome.refused == 0) break;
        judge(trial, point, refusal, outcome, clean, counts);
    }
    counts->done = true;
}

// One n, in a process where jemalloc has nothing yet. What it leaves behind is told from the runs after.
void go_once(const Trial &trial, const PointName &point, bool lasting, Counts *counts) {
    limit_time();
    const Refusal refusal{point.point, counts->n, lasting};
    counts->failed_request = {};
    Trial::Outcome outcome = trial.run(refusal);
    const Trial::Outcome clean = trial.run({});
    if (!clean.wrong.empty()) note(trial, point, {}, clean.wrong.c_str());
    outcome.left = clean.left;
    outcome.uncounted = clean.uncounted;
    if (outcome.refused == 0) {
        counts->done = true;
    } else {
        judge(trial, point, refusal, outcome, clean, counts);
    }
}

// In a child, so that a crash is counted and survived.
void isolate(const Trial &trial, const PointName &point, bool lasting, std::uint64_t every, Counts *counts) {
    counts->n = 1;
    counts->done = false;
    while (!counts->done && counts->crashes < max_crashes) {
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            oom::failed_request = &counts->failed_request;
            if (point.fresh) {
                go_once(trial, point, lasting, counts);
            } else {
                go_through(trial, point, lasting, every, counts);
            }
            std::fflush(nullptr);
            _exit(0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) {
            std::perror("oom: fork");
            std::exit(2);
        }
        if (status != 0) ++counts->refused;
        if (status != 0 && is_luajits_own(trial, counts->failed_request, lasting, "")) {
            ++counts->luajit;
        } else if (status != 0) {
            ++counts->crashes;
            char text[64];
            std::snprintf(text, sizeof text, WIFSIGNALED(status) ? "crashed by signal %d" : "exited with %d",
                          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            note(trial, point, {point.point, counts->n, lasting}, text);
        }
        if (status != 0 || point.fresh) counts->n += point.fresh ? 1 : every;
    }
}

bool wanted(const char *filter, const char *name) {
    return filter == nullptr || std::strcmp(filter, name) == 0;
}

void work(const Row &row, const Arguments &arguments, Counts *counts) {
    const Trial trial(*row.program, *row.setting, row.jit);
    const std::uint64_t every = arguments.every * row.program->every;
    for (const PointName &point : points) {
        if (!wanted(arguments.point, point.name)) continue;
        for (const bool lasting : {false, true}) isolate(trial, point, lasting, every, counts);
    }
}

// Rows by `jobs` workers at a time.
void run_rows(std::vector<Row> &rows, const Arguments &arguments) {
    auto *shared = static_cast<Counts *>(mmap(nullptr, rows.size() * sizeof(Counts), PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (shared == MAP_FAILED) {
        std::perror("oom: mmap");
        std::exit(2);
    }
    std::map<pid_t, std::size_t> working;
    const auto reap = [&] {
        int status = 0;
        const pid_t worker = wait(&status);
        if (status != 0) ++shared[working[worker]].crashes;
        working.erase(worker);
    };
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (working.size() >= arguments.jobs) reap();
        const pid_t worker = fork();
        if (worker == 0) {
            work(rows[i], arguments, &shared[i]);
            _exit(0);
        }
        working[worker] = i;
    }
    while (!working.empty()) reap();
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].counts = shared[i];
}

// Prints the table; whether nothing was found.
bool print_table(const std::vector<Row> &rows) {
    const char *line = "%-16s %-12s %-4s %10llu %8llu %6llu %13llu %14llu\n";
    using Number = unsigned long long;
    std::printf("%-16s %-12s %-4s %10s %8s %6s %13s %14s\n", "program", "front end", "jit", "refusals",
                "crashes", "leaks", "wrong errors", "LuaJIT's own");
    Counts all{};
    for (const Row &row : rows) {
        const Counts &counts = row.counts;
        std::printf(line, row.program->name.c_str(), row.setting->name, row.jit ? "on" : "off",
                    Number{counts.refused}, Number{counts.crashes}, Number{counts.leaks},
                    Number{counts.wrong}, Number{counts.luajit});
        all.refused += counts.refused;
        all.crashes += counts.crashes;
        all.leaks += counts.leaks;
        all.wrong += counts.wrong;
        all.luajit += counts.luajit;
    }
    std::printf(line, "all", "", "", Number{all.refused}, Number{all.crashes}, Number{all.leaks},
                Number{all.wrong}, Number{all.luajit});
    return all.refused > 0 && all.crashes + all.leaks + all.wrong == 0;
}

[[noreturn]] void usage(const char *wrong) {
    std::fprintf(stderr,
                 "oom: %s: usage: [--program NAME] [--front NAME] [--jit on|off] [--point NAME] [--every N] "
                 "[--jobs N] [--at N [--lasting yes]]\n",
                 wrong);
    std::exit(2);
}

Arguments parse(int argc, char **argv) {
    Arguments arguments;
    for (int i = 1; i < argc; i += 2) {
        const std::string_view name = argv[i];
        if (i + 1 == argc) usage(argv[i]);
        const char *value = argv[i + 1];
        if (name == "--program") {
            arguments.program = value;
        } else if (name == "--front") {
            arguments.front = value;
        } else if (name == "--point") {
            arguments.point = value;
        } else if (name == "--jit") {
            arguments.jit = value;
        } else if (name == "--lasting") {
            arguments.lasting = std::strcmp(value, "yes") == 0;
        } else if (name == "--every") {
            arguments.every = std::max(1ul, std::strtoul(value, nullptr, 10));
        } else if (name == "--jobs") {
            arguments.jobs = std::max(1u, static_cast<unsigned>(std::strtoul(value, nullptr, 10)));
        } else if (name == "--at") {
            arguments.at = std::strtoul(value, nullptr, 10);
        } else {
            usage(argv[i]);
        }
    }
    return arguments;
}

}  // namespace

int main(int argc, char **argv) {
    const Arguments arguments = parse(argc, argv);
    const std::vector<Program> programs = oom::programs();
    std::vector<Row> rows;
    for (const Program &program : programs) {
        if (!wanted(arguments.program, program.name.c_str())) continue;
        for (const Setting &setting : oom::settings) {
            if (!wanted(arguments.front, setting.name)) continue;
            if (arguments.front == nullptr && setting.conf[0] == '\0') continue;
            for (const bool jit : {false, true}) {
                if (!wanted(arguments.jit, jit ? "on" : "off")) continue;
                rows.push_back({&program, &setting, jit, {}});
            }
        }
    }
    if (rows.empty()) usage("no such program or front end");
    oom::spare_compiled_code = true;
    if (arguments.at != 0) {  // one trial, in this process: for a debugger
        const Trial trial(*rows[0].program, *rows[0].setting, rows[0].jit);
        const Trial::Outcome clean = trial.run({});
        Counts counts{};
        oom::failed_request = &counts.failed_request;
        for (const PointName &point : points) {
            if (!wanted(arguments.point, point.name)) continue;
            const Refusal refusal{point.point, arguments.at, arguments.lasting};
            counts.failed_request = {};
            judge(trial, point, refusal, trial.run(refusal), clean, &counts);
        }
        oom::failed_request = nullptr;
        return 0;
    }
    run_rows(rows, arguments);
    return print_table(rows) ? 0 : 1;
}
