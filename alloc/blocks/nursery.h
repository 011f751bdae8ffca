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
#pragma once

#include <cstddef>
#include <cstdint>

#include "blocks/slab.h"
#include "pages/pages.h"

namespace jemalloc_lua {

template <class Links>
class Nursery {
  public:
    // `start` is aligned to a slab; from `fresh` on nothing is in use yet.
    Nursery(std::uintptr_t start, std::size_t bytes, std::uintptr_t fresh, Pages &pages, Links &links)
        : start_(start),
          low_(Links::before_header == 0 ? header_start(start) : start),
          fresh_((fresh + 15) & ~std::uintptr_t{15}),
          ready_(start),
          end_(start + bytes),
          pages_(pages),
          links_(links) {}
    Nursery(const Nursery &) = delete;
    Nursery &operator=(const Nursery &) = delete;

    // The header of the first piece, in which the heap itself lies.
    void open_first() { open_piece(); }

    // Memory for a block; null when there is none for this size.
    void *take(std::size_t size);

    bool contains(const void *ptr) const {
        return reinterpret_cast<std::uintptr_t>(ptr) - start_ < end_ - start_;
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
    std::uintptr_t base_of(std::uintptr_t at) const { return at & ~(pages_.settings().slab_size - 1); }
    bool open_next_piece();
    void open_piece();

    std::uintptr_t start_;
    std::uintptr_t low_;
    std::uintptr_t fresh_;
    std::uintptr_t ready_;
    std::uintptr_t end_;
    Pages &pages_;
    Links &links_;
};

}  // namespace jemalloc_lua
