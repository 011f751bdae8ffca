#include "pages/extent_map.h"

#include <algorithm>

#include "system/jemalloc.h"

namespace jemalloc_lua {
namespace {

constexpr std::size_t min_capacity = 64;
constexpr int placed = je::align_flag(64);

}  // namespace

std::size_t ExtentMap::bytes_of(std::size_t capacity) {
    return capacity == 0 ? 0 : je::size_class(capacity * sizeof(AddressTable::Entry) + 2 * guard_size);
}

std::size_t ExtentMap::wanted_capacity() const {
    const std::size_t now = capacity();
    if (is_full()) return std::max(2 * now, min_capacity);
    if (now > min_capacity && table_.count() <= now / 16) return std::max(now / 4, min_capacity);
    return now;
}

bool ExtentMap::resize(std::size_t capacity, int flags) {
    void *old = const_cast<void *>(this->memory());
    const std::size_t old_bytes = bytes_of(this->capacity());
    if (capacity == 0) {
        table_ = {};
        if (old != nullptr) je::sdallocx(old, old_bytes, placed | je::no_tcache_flag);
        return true;
    }
    void *memory = je::mallocx(bytes_of(capacity), flags | placed | je::zero_flag);
    if (memory == nullptr) return false;
    auto *entries = reinterpret_cast<AddressTable::Entry *>(static_cast<char *>(memory) + guard_size);
    build_guard(key_, memory);
    build_guard(key_, entries + capacity);
    table_.move_to(entries, capacity);
    if (old != nullptr) je::sdallocx(old, old_bytes, placed | je::no_tcache_flag);
    return true;
}

bool ExtentMap::is_whole() const {
    if (capacity() == 0) return true;
    const auto *entries = table_.entries();
    return jemalloc_lua::is_whole(key_, memory()) && jemalloc_lua::is_whole(key_, entries + capacity());
}

ExtentMap::~ExtentMap() {
    void *memory = const_cast<void *>(this->memory());
    if (memory != nullptr) je::sdallocx(memory, bytes_of(capacity()), placed | je::no_tcache_flag);
}

}  // namespace jemalloc_lua
