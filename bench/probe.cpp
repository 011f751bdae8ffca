// The probes. Figures of resident memory are what the case added to the process.

#include "probe.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "allocators.h"
#include "process.h"

namespace jemalloc_lua::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

double difference(std::size_t after, std::size_t before) {
    return static_cast<double>(after) - static_cast<double>(before);
}

std::unique_ptr<State> open_state(const Allocator &allocator) {
    auto state = allocator.make_state();
    if (state != nullptr) luaL_openlibs(state->L);
    return state;
}

void run_or_exit(lua_State *L, const char *code) {
    if (luaL_loadstring(L, code) == 0 && lua_pcall(L, 0, 0, 0) == 0) return;
    std::fprintf(stderr, "%s\n", lua_tostring(L, -1));
    std::_Exit(1);
}

double live_bytes(lua_State *L) {
    return 1024.0 * lua_gc(L, LUA_GCCOUNT, 0) + lua_gc(L, LUA_GCCOUNTB, 0);
}

// States with open libraries that do nothing: their creation, and what one holds.
Figures alive(const Allocator &allocator, std::size_t count) {
    // What the first states of a process cost once: ours begin on one shared arena for each CPU.
    std::vector<std::unique_ptr<State>> first;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
        first.push_back(open_state(allocator));
    }
    const std::size_t before = resident_bytes();
    const auto start = Clock::now();
    std::vector<std::unique_ptr<State>> states;
    states.reserve(count);
    while (states.size() < count) {
        states.push_back(open_state(allocator));
        if (states.back() == nullptr) {
            std::fprintf(stderr, "no more than %zu states\n", states.size() - 1);
            std::_Exit(1);
        }
    }
    const double created = seconds_since(start);
    const double resident = difference(resident_bytes(), before);
    const auto number = static_cast<double>(count);
    const auto closing = Clock::now();
    states.clear();
    return {{"seconds", created / number},
            {"close_seconds", seconds_since(closing) / number},
            {"resident_per_state", resident / number}};
}

// Closing a state with a million live objects.
Figures close_million(const Allocator &allocator) {
    auto state = open_state(allocator);
    run_or_exit(state->L, "kept = {} for i = 1, 500000 do kept[i] = { id = i } end");
    const double live = live_bytes(state->L);
    const auto start = Clock::now();
    state.reset();
    return {{"seconds", seconds_since(start)}, {"live", live}};
}

// A peak of about 250 MB, then a full collection that leaves about 1 MB.
Figures peak(const Allocator &allocator) {
    const std::size_t before = resident_bytes();
    const auto start = Clock::now();
    const auto state = open_state(allocator);
    run_or_exit(state->L, R"(
        kept = {}
        for i = 1, 5000 do kept[i] = { id = i } end
        local peak = {}
        for i = 1, 1100000 do
            peak[i] = i % 20 == 0 and ("x"):rep(900) .. i or { id = i, twice = 2 * i, half = i / 2 }
        end
        before = collectgarbage("count")
        peak = nil
        collectgarbage()
    )");
    const double taken = seconds_since(start);
    lua_getglobal(state->L, "before");
    return {{"seconds", taken},
            {"resident_after", difference(resident_bytes(), before)},
            {"peak_resident", difference(peak_resident_bytes(), before)},
            {"live_at_peak", 1024 * lua_tonumber(state->L, -1)},
            {"live", live_bytes(state->L)}};
}

// A steady program whose memory rises and falls with each collection: page faults once it runs.
Figures saw_tooth(const Allocator &allocator) {
    const auto state = open_state(allocator);
    run_or_exit(state->L, R"(
        kept = {}
        function serve(n)
            for i = 1, n do
                kept[i % 60000 + 1] = { id = i, name = "request " .. i % 5000, parts = { i, i + 1 } }
            end
        end
        serve(1000000)
    )");
    const long faults = process_use().minor_faults;
    const auto start = Clock::now();
    run_or_exit(state->L, "serve(3000000)");
    const double taken = seconds_since(start);
    return {{"seconds", taken},
            {"faults", static_cast<double>(process_use().minor_faults - faults)},
            {"live", live_bytes(state->L)}};
}

// Long churn of blocks of many sizes: what the process holds for each live byte.
Figures churn(const Allocator &allocator) {
    const std::size_t before = resident_bytes();
    const auto start = Clock::now();
    const auto state = open_state(allocator);
    run_or_exit(state->L, R"(
        local kept, seed = {}, 42
        local function random(n) seed = seed * 16807 % 2147483647 return seed % n end
        local filler = ("abcdefgh"):rep(300)
        for round = 1, 12 do
            local most = 40 * 2 ^ (round % 6) -- what lives long changes in size
            for i = 1, 150000 do
                local n = 1 + random(most)
                local key = random(40000) + 1
                if i % 3 == 0 then
                    kept[key] = filler:sub(1, n) .. i
                else
                    local part = {}
                    for k = 1, n % 12 do part[k] = k end
                    kept[key] = part
                end
            end
        end
        KEPT = kept
        collectgarbage()
    )");
    const double taken = seconds_since(start);
    const double live = live_bytes(state->L);
    const double resident = difference(resident_bytes(), before);
    return {
        {"seconds", taken}, {"resident", resident}, {"live", live}, {"resident_per_live", resident / live}};
}

// One block that grows to some 400 MB.
Figures growth(const Allocator &allocator, const char *code) {
    const std::size_t before = resident_bytes();
    const auto state = open_state(allocator);
    const auto start = Clock::now();
    run_or_exit(state->L, code);
    return {{"seconds", seconds_since(start)}, {"peak_resident", difference(peak_resident_bytes(), before)}};
}

constexpr const char *array_code = "local t = {} for i = 1, 45000000 do t[i] = i end assert(#t == 45000000)";
constexpr const char *hash_code = "local t = {} for i = 1, 9000000 do t[i + 0.5] = i end assert(t[2.5] == 2)";
constexpr const char *buffer_code = R"(
    local buffer = require("string.buffer").new()
    local piece = ("x"):rep(100)
    for i = 1, 4000000 do buffer:put(piece) end
    assert(#buffer == 400000000)
)";

using Probe = std::function<Figures(const Allocator &)>;

const std::map<std::string, Probe> &probes() {
    static const std::map<std::string, Probe> all = {
        {"state/alive/1000", [](const Allocator &allocator) { return alive(allocator, 1000); }},
        {"state/alive/10000", [](const Allocator &allocator) { return alive(allocator, 10000); }},
        {"state/alive/100000", [](const Allocator &allocator) { return alive(allocator, 100000); }},
        {"state/close_million", close_million},
        {"memory/peak", peak},
        {"memory/saw_tooth", saw_tooth},
        {"memory/churn", churn},
        {"memory/grow_array", [](const Allocator &allocator) { return growth(allocator, array_code); }},
        {"memory/grow_hash", [](const Allocator &allocator) { return growth(allocator, hash_code); }},
        {"memory/grow_buffer", [](const Allocator &allocator) { return growth(allocator, buffer_code); }},
    };
    return all;
}

std::string shell_quoted(const std::string &text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

}  // namespace

std::vector<std::string> probe_names(const std::string &prefix) {
    std::vector<std::string> names;
    for (const auto &[name, probe] : probes()) {
        if (name.starts_with(prefix)) names.push_back(name);
    }
    return names;
}

bool run_probe(const std::string &probe, const std::string &allocator, Figures &figures, std::string &why) {
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) {
        why = "/proc is not there";
        return false;
    }
    self[length] = '\0';
    std::fflush(nullptr);
    const std::string command = shell_quoted(self) + " --probe " + probe + " " + shell_quoted(allocator);
    std::FILE *output = popen(command.c_str(), "r");
    if (output == nullptr) {
        why = "cannot start a process";
        return false;
    }
    char name[64];
    double figure = 0;
    figures.clear();
    while (std::fscanf(output, "%63s %lf", name, &figure) == 2) figures.emplace_back(name, figure);
    if (pclose(output) == 0 && !figures.empty()) return true;
    why = probe + " failed on " + allocator;
    return false;
}

int probe_main(const std::string &probe, const std::string &allocator) {
    const auto found = probes().find(probe);
    if (found == probes().end()) {
        std::fprintf(stderr, "unknown probe %s\n", probe.c_str());
        return 2;
    }
    std::string why;
    const auto subject = find_allocator(allocator, why);
    if (subject == nullptr) {
        std::fprintf(stderr, "%s: %s\n", allocator.c_str(), why.c_str());
        return 2;
    }
    for (const auto &[name, figure] : found->second(*subject)) std::printf("%s %.9g\n", name.c_str(), figure);
    std::fflush(stdout);
    std::_Exit(0);
}

}  // namespace jemalloc_lua::bench
