// How free blocks are linked in a heap that verifies nothing: all that hardened.h does is an empty function
// here. Such a heap does not need the size that it is told with a block, as LuaJIT's own allocator does not:
// modules that pass a wrong one have gone unnoticed for years.
#pragma once

#include <atomic>
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
    // The nursery knows how large its blocks are (nursery.h).
    static constexpr bool knows_sizes = true;

    // How many freed blocks of a piece of the nursery wait until they are ready again. A piece has blocks of
    // all classes. Sorting each freed nursery block at once would need a branch that the CPU mispredicts
    // often, so blocks are sorted 16 at a time.
    static constexpr std::uint32_t nursery_batch = 16;

    Plain(Pages &pages, const Identity &, std::size_t)
        : mask_(~(pages.settings().slab_size - 1)), seal_(new_seal()) {}

    static constexpr bool start() { return true; }

    // ---- Lists of free blocks

    static Block *next(const Block *block) { return block->next; }
    static void link(Block *block, Block *next) { block->next = next; }

    // A ready block is handed out; returns the next one.
    static Block *claim(Block *block, unsigned) { return block->next; }
    // The slab of a small block that is freed, or null where it lies in none: the size that the caller says
    // is wrong, then. A large block's memory may be read here (system/mappings.h).
    Slab *disown(const void *ptr, std::size_t) const {
        Slab *slab = slab_of<Plain>(ptr, mask_);
        return is_slab(slab) ? slab : nullptr;
    }
    bool is_slab(const Slab *slab) const { return slab->seal == seal_; }

    // ---- Verified and tagged in a hardened heap alone

    static Slab *verify(Slab *slab) { return slab; }
    static void verify_map() {}
    static void verify_live(const void *, std::size_t) {}
    void on_slab(Slab *slab) const { slab->seal = seal_; }
    void on_piece(Slab *slab) const { slab->seal = seal_; }
    static void on_give(Slab *slab) { slab->seal = 0; }
    static void on_format(Slab *) {}
    static void on_carve(Block *) {}
    static void on_new(const void *, unsigned) {}
    static void on_new_state(const void *) {}
    static void on_new_kept(const void *, std::size_t) {}
    static void on_keep(const void *, bool) {}
    static void on_reuse(void *, std::size_t, bool) {}
    static void on_shrink(const void *, std::size_t, bool) {}

  private:
    // None of the last 2^32 heaps has it, and hardly a word of anybody's data.
    static std::uint32_t new_seal() {
        static constinit std::atomic<std::uint32_t> count{0};
        return (count.fetch_add(1, std::memory_order_relaxed) + 1) * 0x9E3779B1u;
    }

    std::uintptr_t mask_;
    std::uint32_t seal_;
};

}  // namespace jemalloc_lua
