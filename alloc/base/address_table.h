// A hash table of addresses, each with one word: open addressing, never full. Its memory is the owner's
// concern: the owner decides when the table grows, gives a zeroed array, and takes the old one back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

class AddressTable {
  public:
    // Neither a key nor its value is 0.
    struct Entry {
        std::uintptr_t key;
        std::uintptr_t value;
    };

    const Entry *find(std::uintptr_t key) const {
        for (std::size_t at = place(key);; at = (at + 1) & mask_) {
            if (entries_[at].key == key) [[likely]]
                return &entries_[at];
            if (entries_[at].key == 0) return nullptr;
        }
    }
    Entry *find(std::uintptr_t key) {
        return const_cast<Entry *>(static_cast<const AddressTable *>(this)->find(key));
    }

    // 0 before the first move_to().
    std::size_t capacity() const { return entries_ == &no_entry ? 0 : mask_ + 1; }
    std::size_t count() const { return count_; }
    // Half full: time to grow, where memory allows.
    bool is_full() const { return count_ >= capacity() / 2; }
    // Null before the first move_to().
    Entry *entries() { return entries_ == &no_entry ? nullptr : entries_; }
    const Entry *entries() const { return const_cast<AddressTable *>(this)->entries(); }

    // Moves all entries into a zeroed array; `capacity` is a power of two.
    void move_to(Entry *array, std::size_t capacity);
    void insert(std::uintptr_t key, std::uintptr_t value);
    // A key that is not in the table may be erased too.
    void erase(std::uintptr_t key);

  private:
    std::size_t place(std::uintptr_t key) const {
        return static_cast<std::size_t>((key >> 4) * 0x9E3779B97F4A7C15u >> 32) & mask_;
    }

    // An array of one empty entry, never written, so that find() need not ask whether there is a table.
    static inline Entry no_entry{};

    Entry *entries_ = &no_entry;
    std::size_t mask_ = 0;
    std::size_t count_ = 0;
};

}  // namespace jemalloc_lua
