#include "base/address_table.h"

namespace jemalloc_lua {

void AddressTable::move_to(Entry *array, std::size_t capacity) {
    const Entry *old = entries_;  // of no capacity at first
    const std::size_t old_capacity = this->capacity();
    entries_ = array;
    mask_ = capacity - 1;
    count_ = 0;
    for (std::size_t i = 0; i < old_capacity; ++i) {
        if (old[i].key != 0) insert(old[i].key, old[i].value);
    }
}

void AddressTable::insert(std::uintptr_t key, std::uintptr_t value) {
    std::size_t at = place(key);
    while (entries_[at].key != 0) at = (at + 1) & mask_;
    entries_[at] = {key, value};
    ++count_;
}

// Closes the gap: each following entry of the run moves into it, unless that would put it before its place.
void AddressTable::erase(std::uintptr_t key) {
    Entry *entry = find(key);
    if (entry == nullptr) return;
    --count_;
    auto gap = static_cast<std::size_t>(entry - entries_);
    for (std::size_t at = (gap + 1) & mask_; entries_[at].key != 0; at = (at + 1) & mask_) {
        const std::size_t wanted = place(entries_[at].key);
        if (((at - wanted) & mask_) < ((at - gap) & mask_)) continue;
        entries_[gap] = entries_[at];
        gap = at;
    }
    entries_[gap] = {};
}

}  // namespace jemalloc_lua
