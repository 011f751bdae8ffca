// How free blocks are linked in a heap that believes what it is told: nothing is verified, and all that
// hardened.h does is an empty function here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "blocks/identity.h"
#include "blocks/slab.h"
#include "pages/pages.h"

namespace jemalloc_lua {

class Plain {
  public:
    static constexpr std::size_t before_header = 0;
    static constexpr std::size_t after_header(std::size_t) { return 0; }

    // How many freed blocks of a piece of the nursery wait until they are ready again. A piece has blocks of
    // all classes. Sorting each freed nursery block at once would need a branch that the CPU mispredicts
    // often, so blocks are sorted 16 at a time.
    static constexpr std::uint32_t nursery_batch = 16;
    // Freed blocks say how large they were, so those of the nursery can wait there unsorted, or be sorted
    // early where their class has no slab.
    static constexpr bool blocks_know_size = true;

    Plain(Pages &pages, const Identity &, std::size_t) : mask_(~(pages.settings().slab_size - 1)) {}

    static constexpr bool start() { return true; }

    // ---- Lists of free blocks

    static Block *next(const Block *block) { return block->next; }
    static void link(Block *block, Block *next) { block->next = next; }
    // {next, size} in one store of 16 bytes: with one more of 8, a sweep whose blocks are in no cache takes
    // 5 % longer.
    static void link_freed(Block *block, Block *next, std::size_t size) {
        using Words [[gnu::vector_size(sizeof(Block)), gnu::may_alias]] = std::uintptr_t;
        *reinterpret_cast<Words *>(block) = Words{reinterpret_cast<std::uintptr_t>(next), size};
    }
    static std::size_t size_of(const Block *block) { return block->size; }

    // A ready block is handed out; returns the next one.
    static Block *claim(Block *block, unsigned) { return block->next; }
    // The slab of a small block that is freed.
    Slab *disown(const void *ptr, std::size_t) const { return slab_of<Plain>(ptr, mask_); }

    // ---- Verified and tagged in a hardened heap alone

    static Slab *verify(Slab *slab) { return slab; }
    static void verify_map() {}
    static void verify_live(const void *, std::size_t) {}
    static void on_slab(Slab *) {}
    static void on_piece(Slab *) {}
    static void on_format(Slab *) {}
    static void on_carve(Block *) {}
    static void on_new(const void *, unsigned) {}
    static void on_new_state(const void *) {}
    static void on_new_kept(const void *, std::size_t) {}
    static void on_keep(const void *, bool) {}
    static void on_reuse(void *, std::size_t, bool) {}
    static void on_shrink(const void *, std::size_t, bool) {}

  private:
    std::uintptr_t mask_;
};

}  // namespace jemalloc_lua
