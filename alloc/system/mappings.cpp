#include "system/mappings.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>

#include "base/process.h"
#include "config/options.h"
#include "luajit/layout.h"

namespace jemalloc_lua {
namespace {

std::uintptr_t address_end = luajit::address_end;

// Programs that are linked to fixed addresses lie below.
constexpr std::uintptr_t address_start = std::uintptr_t{1} << 32;

constexpr std::size_t usual_slab = std::size_t{32} << 10;

// Hints begin at multiples of this, as a huge page does.
constexpr std::size_t hint_step = std::size_t{2} << 20;

// A hint that is taken is followed by another one elsewhere. With a thousandth of the space in use, a second
// one is needed once in a thousand times.
constexpr int max_hints = 64;

// Where the next mapping goes: after the last one, so that mappings lie side by side.
std::atomic<std::uintptr_t> next_hint{0};
// mmap() has returned an address that is too high, so it is asked with a hint from then on.
std::atomic<bool> hints_needed{false};

bool is_low(const void *ptr, std::size_t size) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    return size <= address_end && at <= address_end - size;
}

// splitmix64, started from where this process happens to lie.
std::uintptr_t some_number() {
    static std::atomic<std::uint64_t> state{reinterpret_cast<std::uintptr_t>(&state)};
    std::uint64_t z = state.fetch_add(0x9E3779B97F4A7C15u, std::memory_order_relaxed);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<std::uintptr_t>(z ^ (z >> 31));
}

void *map_at(void *hint, std::size_t size, int protection) {
    void *ptr = mmap(hint, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return ptr == MAP_FAILED ? nullptr : ptr;
}

// A hint is no order: where the place is taken, the kernel chooses one, and that may be too high again.
void *map_low(std::size_t size, std::size_t alignment, int protection) {
    const std::size_t step = alignment > hint_step ? alignment : hint_step;
    if (size > address_end - address_start || address_end - address_start - size < step) return nullptr;
    const std::uintptr_t places = (address_end - address_start - size) / step;
    for (int i = 0; i < max_hints; ++i) {
        std::uintptr_t hint = i == 0 ? next_hint.load(std::memory_order_relaxed) : 0;
        hint = (hint + step - 1) / step * step;
        if (hint < address_start || hint > address_end - size) {
            hint = (address_start + step - 1) / step * step + some_number() % places * step;
        }
        void *ptr = map_at(reinterpret_cast<void *>(hint), size, protection);
        if (ptr == nullptr) return nullptr;
        if (is_low(ptr, size) && reinterpret_cast<std::uintptr_t>(ptr) % alignment == 0) {
            next_hint.store(reinterpret_cast<std::uintptr_t>(ptr) + size, std::memory_order_relaxed);
            return ptr;
        }
        munmap(ptr, size);
    }
    return nullptr;
}

// As a rule the first try is aligned, since the kernel puts mappings side by side.
void *map_aligned(std::size_t size, std::size_t alignment, int protection) {
    void *ptr = map_at(nullptr, size, protection);
    if (ptr == nullptr || reinterpret_cast<std::uintptr_t>(ptr) % alignment == 0) return ptr;
    munmap(ptr, size);
    auto *all = static_cast<char *>(map_at(nullptr, size + alignment, protection));
    if (all == nullptr) return nullptr;
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(all) % alignment;
    if (before != 0) munmap(all, before);
    munmap(all + before + size, alignment - before);
    return all + before;
}

void *map_wanted(void *wanted, std::size_t size, int protection) {
    void *ptr = map_at(wanted, size, protection);
    if (ptr == nullptr || ptr == wanted) return ptr;
    munmap(ptr, size);
    return nullptr;
}

bool is_guard_needed() {
    const int wanted = environment_settings().address_guard;
    if (wanted != address_guard_auto) return wanted != 0;
#if defined(__x86_64__)
    return false;
#else
    return true;
#endif
}

}  // namespace

bool addresses_are_guarded() {
    static constinit Once<bool> guarded;
    return guarded.get(is_guard_needed);
}

void *map_pages(void *wanted, std::size_t size, std::size_t alignment, int protection) {
    // A mapping that is smaller than a slab can be is the last that the system has: no address space is lost
    // between such.
    alignment = std::max(alignment, std::clamp(std::bit_ceil(size), usual_slab, max_slab));
    void *ptr = nullptr;
    if (wanted != nullptr) {
        ptr = map_wanted(wanted, size, protection);
    } else if (!hints_needed.load(std::memory_order_relaxed)) {
        ptr = map_aligned(size, alignment, protection);
    }
    if (!addresses_are_guarded() || (ptr != nullptr && is_low(ptr, size))) return ptr;
    if (ptr != nullptr) munmap(ptr, size);
    if (wanted != nullptr) return nullptr;
    hints_needed.store(true, std::memory_order_relaxed);
    return map_low(size, alignment, protection);
}

void lower_address_end(std::uintptr_t end) {
    address_end = end;
}

}  // namespace jemalloc_lua
