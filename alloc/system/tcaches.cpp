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

// forks() when each was made, under the process's lock.
std::array<std::uint32_t, max_ids> made_in{};

// Whether jemalloc still knows a tcache: it was made since the last fork.
bool is_known(unsigned id) {
    const std::lock_guard guard(process_lock);
    return made_in[id] == forks();
}

}  // namespace

std::optional<unsigned> create_tcache() {
    unsigned id = 0;
    std::size_t size = sizeof id;
    if (je::mallctl("tcache.create", &id, &size, nullptr, 0) != 0) return {};
    const std::lock_guard guard(process_lock);
    made_in[id] = forks();
    return id;
}

void destroy_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

void flush_tcache(unsigned id) {
    if (is_known(id)) je::mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
}

}  // namespace jemalloc_lua
