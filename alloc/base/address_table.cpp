#include "base/address_table.h"

namespace jemalloc_lua {

void Registry::move_to(Entry *table, std::size_t capacity) {
    Entry *old = entries_;
    const std::size_t old_capacity = mask_ + 1;
    entries_ = table;
    mask_ = capacity - 1;
    count_ = 0;
    for (std::size_t i = 0; old != nullptr && i < old_capacity; ++i) {
        if (old[i].key != 0) insert(old[i].key, old[i].value);
    }
}

void Registry::insert(std::uintptr_t key, std::uintptr_t value) {
    std::size_t at = place(key);
    while (entries_[at].key != 0) at = (at + 1) & mask_;
    entries_[at] = {key, value};
    ++count_;
}

// Closes the gap: what follows without one moves up, unless it would leave its place for one before it.
bool Registry::erase(std::uintptr_t key) {
    Entry *entry = find(key);
    if (entry == nullptr) return false;
    --count_;
    auto gap = static_cast<std::size_t>(entry - entries_);
    for (std::size_t at = (gap + 1) & mask_; entries_[at].key != 0; at = (at + 1) & mask_) {
        const std::size_t home = place(entries_[at].key);
        if (((at - home) & mask_) < ((at - gap) & mask_)) continue;
        entries_[gap] = entries_[at];
        gap = at;
    }
    entries_[gap] = {};
    return true;
}

}  // namespace jemalloc_lua
