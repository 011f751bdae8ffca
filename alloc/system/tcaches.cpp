#include "system/tcaches.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "base/process.h"
#include "system/jemalloc.h"

namespace jemalloc_lua {
namespace {

constexpr std::size_t max_ids = 4096;  // MALLOCX_TCACHE() has 12 bits

// jemalloc forgets in the child of fork() which tcaches its arenas have, and to flush or destroy one from
// before then is to follow links that lead nowhere (arena_postfork_child() and tcache_arena_dissociate() in
// jemalloc 5.3). Those are left as they are. All of it under the process's lock.
std::uint32_t generation = 0;                  // forks behind this process
std::array<std::uint32_t, max_ids> made_in{};  // the generation, by tcache

constinit ForkHandler count_fork{nullptr, nullptr, [] { ++generation; }};
[[gnu::constructor]] void add_fork_handler() {
    at_fork(&count_fork);
}

// Whether jemalloc still knows a tcache: it was made since the last fork.
bool is_known(unsigned id) {
    const std::lock_guard guard(process_lock);
    return made_in[id] == generation;
}

}  // namespace

std::optional<unsigned> create_tcache() {
    unsigned id = 0;
    std::size_t size = sizeof id;
    if (je::mallctl("tcache.create", &id, &size, nullptr, 0) != 0) return {};
    const std::lock_guard guard(process_lock);
    made_in[id] = generation;
    return id;
}

void destroy_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

void flush_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
}

}  // namespace jemalloc_lua
