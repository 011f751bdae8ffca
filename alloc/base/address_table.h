// Addresses that a heap knows, each with a value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

// Neither an address nor its value is 0. Open addressing, at most half full, in memory that the owner gives.
class Registry {
  public:
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
        return const_cast<Entry *>(static_cast<const Registry *>(this)->find(key));
    }

    std::size_t capacity() const { return entries_ == nullptr ? 0 : mask_ + 1; }
    std::size_t count() const { return count_; }
    Entry *entries() { return entries_; }

    // Moves all to another table, zeroed, of a power of two of entries.
    void move_to(Entry *table, std::size_t capacity);
    void insert(std::uintptr_t key, std::uintptr_t value);
    // Whether it was known.
    bool erase(std::uintptr_t key);

  private:
    std::size_t place(std::uintptr_t key) const {
        return static_cast<std::size_t>((key >> 4) * 0x9E3779B97F4A7C15u >> 32) & mask_;
    }

    Entry *entries_ = nullptr;
    std::size_t mask_ = 0;
    std::size_t count_ = 0;
};

}  // namespace jemalloc_lua
