// The nursery: the extent that holds the heap itself, LuaJIT's state block and the first blocks of any size,
// handed out by address.
//
//   +----------+------+----------+-------------+-----------------------+------+- - - - - -
//   | blocks v | Slab | the heap | state block | first blocks ->       | Slab | untouched
//   +----------+------+----------+-------------+-----------------------+------+- - - - - -
//   ^ start    ^ low                                                 ready ^    fresh ->    ^ end
//
// It is address space from a shared arena, touched only as it is used. Each slab-sized piece gets a slab's
// header when it is reached, so that free() finds one whichever block it is given, and is counted in the
// budget from then on. [fresh, end) is untouched. What lies before the first header serves the first small
// blocks, downwards to `start`.
//
// Behind the header of a piece lie its marks, a bit for each 16 bytes: a block begins or ends there. Blocks
// lie side by side and keep their sizes, so a block's size is known from the marks alone. A hardened heap has
// tags instead.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "blocks/slab.h"
#include "pages/pages.h"

namespace jemalloc_lua {

template <class Links>
class Nursery {
  public:
    // `start` is aligned to a slab; from `fresh` on nothing is in use yet.
    Nursery(std::uintptr_t start, std::size_t bytes, std::uintptr_t fresh, Pages &pages, Links &links)
        : start_(start),
          mask_(~(pages.settings().slab_size - 1)),
          low_(Links::before_header == 0 ? header_start(start) : start),
          fresh_((fresh + 15) & ~std::uintptr_t{15}),
          ready_(start),
          end_(start + bytes),
          pages_(pages),
          links_(links) {}
    Nursery(const Nursery &) = delete;
    Nursery &operator=(const Nursery &) = delete;

    // Where a piece's blocks begin, behind its header.
    static constexpr std::uintptr_t first_block(std::size_t slab_size, std::uintptr_t base) {
        return header_end<Links>(slab_size, base) + (Links::knows_sizes ? marks_bytes(slab_size) : 0);
    }

    // The header of the first piece, in which the heap itself lies.
    void open_first() { open_piece(); }

    // Memory for a block; null when there is none for this size.
    void *take(std::size_t size);

    bool contains(const void *ptr) const {
        return reinterpret_cast<std::uintptr_t>(ptr) - start_ < end_ - start_;
    }
    // ---- Sizes of blocks, where Links::knows_sizes

    // Bytes of the block that begins at `ptr`, in the nursery.
    std::size_t size_at(const void *ptr) const;
    // The same in units of 16 bytes; 0: not in the nursery, or too large a block to say it at once.
    std::uint32_t units_at(const void *ptr) const {
        const auto at = reinterpret_cast<std::uintptr_t>(ptr);
        if (at - start_ >= end_ - start_) return 0;
        const std::uintptr_t next = (at & ~mask_) / 16 + 1;
        std::uint64_t word = 0;
        std::memcpy(&word, marks_of(at & mask_) + next / 8, sizeof word);
        word >>= next % 8;
        return word == 0 ? 0 : static_cast<std::uint32_t>(std::countr_zero(word)) + 1;
    }

    // Blocks that were freed as small ones and are not: LargeBlocks takes them.
    void put_aside(void *ptr) {
        links_.link(static_cast<Block *>(ptr), aside_);
        aside_ = static_cast<Block *>(ptr);
    }
    Block *take_aside() {
        Block *block = aside_;
        if (block != nullptr) aside_ = links_.next(block);
        return block;
    }

    std::size_t used() const { return fresh_ - start_; }
    std::size_t size() const { return end_ - start_; }
    void *memory() const { return reinterpret_cast<void *>(start_); }

    // Calls f(piece) for each that has a header, until it returns true; whether one did.
    template <class F>
    bool any_piece(F &&f) const {
        for (std::uintptr_t base = start_; base < ready_; base += pages_.settings().slab_size) {
            if (f(slab_at<Links>(base))) return true;
        }
        return false;
    }

  private:
    // With a word that stays zero at their end.
    static constexpr std::size_t marks_bytes(std::size_t slab_size) { return slab_size / 16 / 8 + 64; }
    static std::uint8_t *marks_of(std::uintptr_t base) {
        return reinterpret_cast<std::uint8_t *>(header_end<Links>(0, base));
    }
    void mark(std::uintptr_t at);

    std::uintptr_t base_of(std::uintptr_t at) const { return at & mask_; }
    bool open_next_piece();
    void open_piece();

    std::uintptr_t start_;
    std::uintptr_t mask_;  // of the address bits that pieces are aligned to
    std::uintptr_t low_;
    std::uintptr_t fresh_;
    std::uintptr_t ready_;
    std::uintptr_t end_;
    Block *aside_ = nullptr;
    Pages &pages_;
    Links &links_;
};

}  // namespace jemalloc_lua
