#include "system/own_mappings.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace jemalloc_lua::own_mappings {
namespace {

constexpr std::size_t slots = 4096;
constexpr std::size_t reach = 64;  // slots that an address may be in

struct Slot {
    std::atomic<std::uintptr_t> at{0};  // 0: free
    std::atomic<std::size_t> size{0};
};
constinit std::array<Slot, slots> table;

Slot &slot_of(const void *ptr, std::size_t i) {
    const std::uint64_t hash = (reinterpret_cast<std::uintptr_t>(ptr) >> 12) * 0x9E3779B97F4A7C15u;
    return table[((hash >> 40) + i) % slots];
}

Slot *find(const void *ptr, std::size_t size) {
    for (std::size_t i = 0; i < reach; ++i) {
        Slot &slot = slot_of(ptr, i);
        if (slot.at.load(std::memory_order_acquire) == reinterpret_cast<std::uintptr_t>(ptr)) {
            return slot.size.load(std::memory_order_relaxed) == size ? &slot : nullptr;
        }
    }
    return nullptr;
}

}  // namespace

void add(const void *ptr, std::size_t size) {
    for (std::size_t i = 0; i < reach; ++i) {
        Slot &slot = slot_of(ptr, i);
        std::uintptr_t free = 0;
        if (!slot.at.compare_exchange_strong(free, reinterpret_cast<std::uintptr_t>(ptr))) continue;
        slot.size.store(size, std::memory_order_relaxed);
        return;
    }
}

bool has(const void *ptr, std::size_t size) {
    return find(ptr, size) != nullptr;
}

bool remove(const void *ptr, std::size_t size) {
    Slot *slot = find(ptr, size);
    if (slot == nullptr) return false;
    slot->size.store(0, std::memory_order_relaxed);
    slot->at.store(0, std::memory_order_release);
    return true;
}

}  // namespace jemalloc_lua::own_mappings
