// Which extents a heap has: an extent is memory taken from jemalloc in one call, a slab or a large block. The
// nursery is not in the map, but for its pieces in a hardened heap.
//
// The map answers whether an address begins an extent of this heap, how large it is and what it is used for.
// Its table is an array from jemalloc with a guard on each side, and grows and shrinks with the number of
// extents.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/address_table.h"
#include "base/guard.h"
#include "pages/heap_arena.h"

namespace jemalloc_lua {

// One word: the extent's bytes, and flags above what bytes can be.
class Extent {
  public:
    enum Flag : std::uint64_t {
        slab = std::uint64_t{1} << 48,  // cut into blocks of one class
        idle = slab << 1,               // a freed large block; set in hardened heaps alone
        on_first = slab << 2,           // on the first arena of a heap that may migrate, or has
        advised = slab << 3,            // its pages were advised to be huge ones
        understated = slab << 4,        // its block could not shrink, and Lua believes it smaller
        nursery = slab << 5,            // a piece of the nursery: cut like a slab, and no extent of its own
    };

    constexpr Extent(std::size_t bytes, std::uint64_t flags) : word_(bytes | flags) {}
    static Extent &of(AddressTable::Entry &entry) { return reinterpret_cast<Extent &>(entry.value); }

    std::size_t bytes() const { return word_ & (slab - 1); }
    // With several flags: whether any of them is set.
    bool is(std::uint64_t flags) const { return (word_ & flags) != 0; }
    void set(Flag flag) { word_ |= flag; }
    void clear(Flag flag) { word_ &= ~std::uint64_t{flag}; }
    void set_bytes(std::size_t bytes) { word_ = bytes | (word_ & ~std::uint64_t{slab - 1}); }
    std::uint64_t word() const { return word_; }

  private:
    std::uint64_t word_;
};
static_assert(sizeof(Extent) == sizeof(AddressTable::Entry::value));

class ExtentMap {
  public:
    ExtentMap() = default;
    ExtentMap(const ExtentMap &) = delete;
    ExtentMap &operator=(const ExtentMap &) = delete;
    ~ExtentMap();

    // The extent that begins at an address; null: none of this heap does.
    Extent *find(const void *start) {
        AddressTable::Entry *entry = table_.find(reinterpret_cast<std::uintptr_t>(start));
        return entry == nullptr ? nullptr : &Extent::of(*entry);
    }

    // There must be room for one more: is_full() says whether the table must grow before.
    void add(const void *start, Extent extent) {
        table_.insert(reinterpret_cast<std::uintptr_t>(start), extent.word());
    }
    void remove(const void *start) { table_.erase(reinterpret_cast<std::uintptr_t>(start)); }

    template <class F>
    void for_each(F &&f) {
        for (std::size_t i = 0; i < table_.capacity(); ++i) {
            AddressTable::Entry &entry = table_.entries()[i];
            if (entry.key != 0) f(reinterpret_cast<void *>(entry.key), Extent::of(entry));
        }
    }

    bool is_full() const { return table_.is_full(); }
    std::size_t capacity() const { return table_.capacity(); }
    // The capacity that fits what the map holds: doubled when full, a quarter when nearly empty.
    std::size_t wanted_capacity() const;
    static std::size_t bytes_of(std::size_t capacity);
    bool is_empty() const { return table_.count() == 0; }
    // 0 frees the table of an empty map. False when out of memory; the map is as before.
    bool resize(std::size_t capacity, int flags);

    // Whether nothing has written over the guards.
    bool is_whole() const;
    // The guards' words are predictable until a key is set.
    void set_key(std::uintptr_t key) { key_ = key; }
    // The table's memory, guards included: where damage is reported, and what a test damages.
    const void *memory() const {
        return table_.entries() == nullptr ? nullptr
                                           : reinterpret_cast<const char *>(table_.entries()) - guard_size;
    }

  private:
    AddressTable table_;
    std::uintptr_t key_ = 0;
};

}  // namespace jemalloc_lua
