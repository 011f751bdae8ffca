// How many instructions a small malloc and a small free take, counted one by one, from the call to the
// return.
//
//   instructions [--most MALLOC,FREE] [CONF...]
//
// Without CONF: the slab front, plain and hardened. With --most: exit status 1 where a figure is above its
// own.
//
// A child runs the heap and traps around each request; the parent steps it and counts. So the figures need no
// counters of the CPU's, and are the same on a busy machine. Each is the smallest of many: the fast path.

#include <jemalloc_lua.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t size = 64;
constexpr int rounds = 100;

struct Counts {
    long malloc_path = LONG_MAX;
    long free_path = LONG_MAX;
};

// Two instructions from its entry to its return: `ptr` to the register of results, and the return.
[[gnu::noinline]] void *nothing(void *, void *ptr, std::size_t, std::size_t) {
    asm volatile("");
    return ptr;
}
constexpr long instructions_of_nothing = 2;

void trap_around(lua_Alloc alloc, void *ud) {
    raise(SIGUSR1);
    void *block = alloc(ud, nullptr, 0, size);
    raise(SIGUSR1);
    alloc(ud, block, size, 0);
    raise(SIGUSR1);
}

// Blocks enough that the heap has left its nursery, half of them freed, so that both paths are those of
// slabs.
[[noreturn]] void run(const char *conf) {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    char error[256];
    if (jemalloc_lua_options_parse(&options, conf, error, sizeof error) != 0) {
        std::fprintf(stderr, "instructions: %s\n", error);
        _exit(2);
    }
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(&options);
    if (heap == nullptr) _exit(2);
    const lua_Alloc alloc = jemalloc_lua_heap_alloc(heap);
    std::vector<void *> blocks(50000);
    for (void *&block : blocks) block = alloc(heap, nullptr, 0, size);
    for (std::size_t i = blocks.size() / 2; i < blocks.size(); i += 2) alloc(heap, blocks[i], size, 0);
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    for (int i = 0; i < rounds; ++i) {
        trap_around(nothing, heap);
        trap_around(alloc, heap);
    }
    _exit(0);
}

// Steps the child from one trap to the next; false when it has ended.
bool count_to_next_trap(pid_t child, long *steps) {
    int status = 0;
    *steps = 0;
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0 || waitpid(child, &status, 0) < 0)
            return false;
        if (!WIFSTOPPED(status)) return false;
        if (WSTOPSIG(status) == SIGUSR1) return true;
        ++*steps;
    }
}

// Six traps a round: three around nothing(), three around the heap's function. What the traps themselves take
// is the same around both.
bool measure(const char *conf, Counts *counts) {
    const pid_t child = fork();
    if (child == 0) run(conf);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) return false;
    std::array<long, 6> least;
    least.fill(LONG_MAX);
    std::size_t at = 1;  // the child has just reached the first trap
    for (long steps = 0; count_to_next_trap(child, &steps); at = (at + 1) % least.size())
        least[at] = std::min(least[at], steps);
    if (least[5] == LONG_MAX) return false;
    counts->malloc_path = least[4] - least[1] + instructions_of_nothing;
    counts->free_path = least[5] - least[2] + instructions_of_nothing;
    return true;
}

}  // namespace

int main(int argc, char **argv) {
    std::vector<std::string_view> confs(argv + 1, argv + argc);
    Counts most;
    if (confs.size() > 1 && confs[0] == "--most") {
        if (std::sscanf(argv[2], "%ld,%ld", &most.malloc_path, &most.free_path) != 2) {
            std::fprintf(stderr, "instructions: --most takes MALLOC,FREE such as 16,24, not '%s'\n", argv[2]);
            return 2;
        }
        confs.erase(confs.begin(), confs.begin() + 2);
    }
    if (confs.empty()) confs = {"front:slab", "front:slab,harden:true"};
    bool within = true;
    for (const std::string_view conf : confs) {
        Counts counts;
        if (!measure(conf.data(), &counts)) {
            std::fprintf(stderr, "instructions: %s: the heap could not be stepped (is ptrace forbidden?)\n",
                         conf.data());
            return 77;
        }
        std::printf("%-24s malloc %3ld  free %3ld\n", conf.data(), counts.malloc_path, counts.free_path);
        within = within && counts.malloc_path <= most.malloc_path && counts.free_path <= most.free_path;
    }
    return within ? 0 : 1;
}
