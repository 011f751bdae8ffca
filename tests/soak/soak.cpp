// States created, run, handed from thread to thread and closed by many threads, of all front ends and arenas,
// while another forks; tools/soak runs it for long.
//
//     soak [--seconds N] [--threads N] [--forks N] [--compiler on|off] [--growth PERCENT]
//
// --forks is per second. With LuaJIT's compiler off, a child goes on with the states that it inherited, makes
// some of its own and closes all. With the compiler on it calls exec: LuaJIT registers traces with libgcc's
// unwinder, whose lock a child may inherit locked for ever, on any allocator.
//
// Memory is measured twice, after a fifth of the time and at the end, in the same condition: all states
// closed, unused pages given back. The states alive at once are bounded, and so many with an arena and a
// tcache of their own are made first of all, so what grows between the two is a leak.

#include <fcntl.h>
#include <jemalloc_lua.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <lua.hpp>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "system/jemalloc.h"

namespace {

namespace je = jemalloc_lua::je;
using Clock = std::chrono::steady_clock;

constexpr std::size_t pool_size = 24;

struct Settings {
    double seconds = 5;
    unsigned threads = 4;
    unsigned forks = 20;
    bool compiler = false;
    double growth = 5;
} settings;

std::atomic<std::uint64_t> requests, states, closes, hand_overs, forks, refusals;

[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "soak: process %ld: %s\n", static_cast<long>(getpid()), what);
    _exit(1);
}

// ---- States

const char program[] = R"(
    local kept, n = {}, 0
    function handle(id)
        n = n + 1
        local t = {}
        for i = 1, 300 do t[i] = {id, tostring(i), function() return i end} end
        kept[n % 8] = t
        local text = {}
        for i = 1, 200 do text[i] = ('%d:%d'):format(id, i) end
        text = table.concat(text, ' ')
        local co = coroutine.wrap(function(a) while true do a = coroutine.yield(a .. text) end end)
        if n % 16 == 0 then
            local big = {}
            for i = 1, 40000 do big[i] = i end
            kept.big = n % 64 == 0 and big or nil
        end
        assert(not pcall(error, text))
        for _, each in pairs(kept) do
            local first = each[1]
            if type(first) == 'table' then assert(first[3]() == 1 and each[300][2] == '300') end
        end
        return #co('x') - #text
    end
)";

std::string some_conf(std::mt19937_64 &random) {
    static const char *const fronts[] = {"slab", "slab", "slab,harden:true", "direct", "checked"};
    static const char *const arenas[] = {"auto", "own", "shared", "thread"};
    static const char *const more[] = {
        "", ",scrub:true", ",retain:0", ",arena_threshold:64K", ",slab:16K,nursery:16K", ",tcache:none"};
    return std::string("front:") + fronts[random() % std::size(fronts)] +
           ",arena:" + arenas[random() % std::size(arenas)] + more[random() % std::size(more)];
}

lua_State *open_state(const std::string &conf) {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    char err[256];
    if (jemalloc_lua_options_parse(&options, conf.c_str(), err, sizeof err) != 0) fail(err);
    lua_State *L = jemalloc_lua_newstate_opts(&options);
    if (L == nullptr) fail("no state");
    luaL_openlibs(L);  // which switches the compiler on
    if (!settings.compiler) luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (luaL_dostring(L, program)) fail(lua_tostring(L, -1));
    ++states;
    return L;
}

void close_state(lua_State *L, std::mt19937_64 &random) {
    if (random() % 2 == 0) {
        lua_close(L);
    } else {
        jemalloc_lua_close(L);
    }
    ++closes;
}

// A request that must be answered right, unless a limit is in the way. LuaJIT of 2023 does not survive every
// refusal in compiled code, on any allocator, and frees a closure whose upvalue was refused with the wrong
// size, which front:checked reports: no limits there.
void serve(lua_State *L, std::mt19937_64 &random) {
    jemalloc_lua_stats stats{};
    stats.size = sizeof stats;
    if (jemalloc_lua_get_stats(L, &stats) != 0) fail("a state without statistics");
    if (stats.footprint < stats.live) fail("a footprint below what is live");
    const bool limited =
        !settings.compiler && stats.front != JEMALLOC_LUA_FRONT_CHECKED && random() % 16 == 0;
    if (limited) {
        jemalloc_lua_set_limit(L, stats.footprint + (64 << 10));
    }
    lua_getglobal(L, "handle");
    lua_pushinteger(L, static_cast<lua_Integer>(random() % 1000));
    if (lua_pcall(L, 1, 1, 0) != 0) {
        if (!limited || std::strstr(lua_tostring(L, -1), "not enough memory") == nullptr)
            fail(lua_tostring(L, -1));
        ++refusals;
    } else if (lua_tointeger(L, -1) != 1) {
        fail("a wrong answer");
    }
    lua_settop(L, 0);
    if (limited) jemalloc_lua_set_limit(L, 0);
    if (random() % 32 == 0) lua_gc(L, LUA_GCCOLLECT, 0);
    if (random() % 32 == 0) jemalloc_lua_trim(L);
    ++requests;
}

// ---- Threads

std::mutex lock;  // of what follows
std::condition_variable changed;
std::vector<lua_State *> idle;
std::size_t alive = 0;
unsigned paused = 0;
bool pausing = false, stopping = false;

// False once it is time to go.
bool go_on() {
    std::unique_lock held(lock);
    if (pausing) {
        ++paused;
        changed.notify_all();
        changed.wait(held, [] { return !pausing; });
        --paused;
    }
    return !stopping;
}

// An idle state, or null where a new one may be made.
lua_State *take(std::mt19937_64 &random) {
    const std::lock_guard held(lock);
    if (idle.empty() || (alive < pool_size && random() % 4 == 0)) {
        ++alive;
        return nullptr;
    }
    std::swap(idle[random() % idle.size()], idle.back());
    lua_State *L = idle.back();
    idle.pop_back();
    return L;
}

void work(unsigned seed) {
    std::mt19937_64 random(seed);
    while (go_on()) {
        lua_State *L = take(random);
        if (L == nullptr) L = open_state(some_conf(random));
        for (auto i = random() % 4; i > 0; --i) serve(L, random);
        if (random() % 8 == 0) {
            close_state(L, random);
            const std::lock_guard held(lock);
            --alive;
        } else {
            const std::lock_guard held(lock);
            idle.push_back(L);
            ++hand_overs;
        }
    }
}

// ---- Forks

[[noreturn]] void child_goes_on(unsigned seed) {
    std::mt19937_64 random(seed);
    for (lua_State *L : idle) {
        if (random() % 4 == 0) serve(L, random);
    }
    for (int i = 0; i < 4; ++i) idle.push_back(open_state(some_conf(random)));
    for (lua_State *L : idle) {
        if (random() % 4 == 0) serve(L, random);
        close_state(L, random);
    }
    _exit(0);
}

// What a child of --compiler on runs.
int be_exec_child() {
    settings.compiler = true;
    std::mt19937_64 random(static_cast<unsigned>(getpid()));
    for (int i = 0; i < 4; ++i) {
        lua_State *L = open_state(some_conf(random));
        serve(L, random);
        close_state(L, random);
    }
    return 0;
}

void fork_now_and_then() {
    for (unsigned seed = 1000; go_on(); ++seed) {
        std::unique_lock held(lock);
        if (pausing || stopping) continue;
        const pid_t child = fork();
        if (child < 0) fail("no fork");
        if (child == 0) {
            alarm(120);  // a lock that was left locked must not hang the run
            if (!settings.compiler) child_goes_on(seed);
            execl("/proc/self/exe", "soak", "--exec-child", nullptr);
            _exit(127);
        }
        held.unlock();
        int status = 0;
        if (waitpid(child, &status, 0) != child) fail("no child to wait for");
        if (status != 0) fail(WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "a child failed");
        ++forks;
        std::this_thread::sleep_for(std::chrono::milliseconds(1000 / settings.forks));
    }
}

// ---- Memory

std::size_t resident() {
    char text[64] = "";
    const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0) fail("/proc/self/statm can't be read");
    close(file);
    std::size_t size = 0, pages = 0;
    if (std::sscanf(text, "%zu %zu", &size, &pages) != 2) fail("/proc/self/statm can't be read");
    return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

struct Held {
    std::size_t resident;   // of the process, all states closed
    std::size_t purged;     // and after jemalloc and the C library have given back what is unused
    std::size_t allocated;  // bytes that jemalloc has handed out
};

// With all threads paused and all states closed.
Held measure(unsigned thread_count) {
    std::mt19937_64 random(1);
    std::unique_lock held(lock);
    pausing = true;
    changed.wait(held, [&] { return paused == thread_count; });
    for (lua_State *L : idle) close_state(L, random);
    alive -= idle.size();
    idle.clear();
    if (alive != 0) fail("a state went astray");
    Held now{};
    now.resident = resident();
    je::mallctl("arena.4096.purge", nullptr, nullptr, nullptr, 0);
    malloc_trim(0);
    now.purged = resident();
    std::uint64_t epoch = 1;
    je::mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
    now.allocated = je::read<std::size_t>("stats.allocated");
    pausing = false;
    changed.notify_all();
    return now;
}

// As many at once as there will ever be, each with an arena and a tcache of its own.
void make_the_most() {
    std::mt19937_64 random(2);
    std::vector<lua_State *> all;
    for (std::size_t i = 0; i < pool_size + settings.threads; ++i) {
        all.push_back(open_state("front:direct,arena:own"));
        serve(all.back(), random);
    }
    for (lua_State *L : all) close_state(L, random);
}

int run() {
    make_the_most();
    const auto start = Clock::now();
    const auto after = [&](double seconds) { return start + std::chrono::duration<double>(seconds); };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < settings.threads; ++i) threads.emplace_back(work, i);
    if (settings.forks > 0) threads.emplace_back(fork_now_and_then);
    const auto thread_count = static_cast<unsigned>(threads.size());

    std::size_t peak = 0;
    const auto watch_until = [&](auto end) {
        while (Clock::now() < end) {
            peak = std::max(peak, resident());
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    };
    watch_until(after(settings.seconds / 5));
    const Held begin = measure(thread_count);
    watch_until(after(settings.seconds));
    const Held end = measure(thread_count);
    {
        const std::lock_guard held(lock);
        stopping = true;
    }
    for (std::thread &thread : threads) thread.join();
    std::mt19937_64 random(3);
    for (lua_State *L : idle) close_state(L, random);

    const double growth = 100.0 * (static_cast<double>(end.purged) / static_cast<double>(begin.purged) - 1);
    const auto K = [](std::size_t bytes) { return bytes / 1024; };
    std::printf(
        "compiler %s: %ju requests, %ju hand-overs, %ju states made, %ju closed, %ju forks, %ju refusals\n",
        settings.compiler ? "on" : "off", std::uintmax_t{requests}, std::uintmax_t{hand_overs},
        std::uintmax_t{states}, std::uintmax_t{closes}, std::uintmax_t{forks}, std::uintmax_t{refusals});
    std::printf(
        "resident KiB: peak %zu; all states closed: %zu after warm-up, %zu at the end; and purged: %zu, %zu "
        "(%+.1f %%)\n",
        K(peak), K(begin.resident), K(end.resident), K(begin.purged), K(end.purged), growth);
    std::printf("jemalloc has handed out %zu KiB after warm-up, %zu KiB at the end\n", K(begin.allocated),
                K(end.allocated));
    if (growth > settings.growth) {
        std::fprintf(stderr, "soak: resident memory grew by %.1f %%; at most %.0f %% are right\n", growth,
                     settings.growth);
        return 1;
    }
    return 0;
}

bool read_settings(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i], value = argv[i + 1];
        if (name == "--seconds") {
            settings.seconds = std::atof(value.c_str());
        } else if (name == "--threads") {
            settings.threads = static_cast<unsigned>(std::atoi(value.c_str()));
        } else if (name == "--forks") {
            settings.forks = static_cast<unsigned>(std::atoi(value.c_str()));
        } else if (name == "--growth") {
            settings.growth = std::atof(value.c_str());
        } else if (name == "--compiler" && (value == "on" || value == "off")) {
            settings.compiler = value == "on";
        } else {
            return false;
        }
    }
    return argc % 2 == 1 && settings.seconds > 0 && settings.threads > 0 && settings.forks <= 1000;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc == 2 && std::strcmp(argv[1], "--exec-child") == 0) return be_exec_child();
    if (!read_settings(argc, argv)) {
        std::fprintf(
            stderr,
            "usage: soak [--seconds N] [--threads N] [--forks N] [--compiler on|off] [--growth PERCENT]\n");
        return 2;
    }
    return run();
}
