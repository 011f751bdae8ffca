// harden:true: a wrong program ends in a report, not in a heap that belongs to somebody else.
//
//   hardened slab
//   +--------+-------+------+-----------------+-------+--------------------+
//   | blocks | guard | Slab | tags, 1/16th    | guard |             blocks |
//   +--------+-------+------+-----------------+-------+--------------------+
//
// Tags say what begins at each 16 bytes of the slab: nothing, a block in use and its class, or a free block.
// Each free and realloc is held against them, so a second free, a free with another class's size and a free
// of an address that is no block are found at once. Nothing is handed out that is not tagged free.
//
// Links of free blocks are disguised with a key of the heap's, and sealed with another: a write to the first
// 16 bytes of a freed block is found before the link is followed.
//
// Guards are a line of words on both sides of the header. A write that runs over the header from a block runs
// over a guard first. Each free looks at the word next to the header; each slow path looks at both lines
// before the header decides anything.
//
// The extent map knows the slabs and the large blocks of the heap, so no address that a wrong program hands
// in is followed before it is known to be the heap's. Pieces of the nursery are in it too.
//
// Keys are from the kernel, one set for each heap. They are no secret from code that can read the heap.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/guard.h"
#include "blocks/identity.h"
#include "blocks/size_class.h"
#include "blocks/slab.h"
#include "luajit/layout.h"
#include "pages/pages.h"

namespace jemalloc_lua {

// What a tag says: nothing begins here, a free block, or a block in use of class tag - live. Classes of large
// blocks, which only the nursery holds, follow those of small ones; then comes the state's block.
enum class Tag : std::uint8_t { none = 0, free = 1, live = 2 };

class Hardened {
  public:
    static constexpr std::size_t before_header = guard_size;
    static constexpr std::size_t after_header(std::size_t slab_size) { return slab_size / 16 + guard_size; }
    static constexpr std::uint32_t nursery_batch = 1;  // each block is of the class that its caller says
    static constexpr bool knows_sizes = false;

    Hardened(Pages &pages, const Identity &owner, std::size_t small_max);
    // Takes memory for the map, so that pieces of the nursery can be entered. False: out of memory.
    bool start();

    // ---- Lists of free blocks

    Block *next(const Block *block) const {
        const auto at = reinterpret_cast<std::uintptr_t>(block);
        const Sealed sealed = *reinterpret_cast<const Sealed *>(block);
        if (sealed.seal != (sealed.link + at) * seal_key_) [[unlikely]]
            report_written(block, "written to after it was freed");
        return reinterpret_cast<Block *>(sealed.link ^ link_key_ ^ at);
    }
    void link(Block *block, const Block *next) const {
        const auto at = reinterpret_cast<std::uintptr_t>(block);
        const std::uintptr_t link = reinterpret_cast<std::uintptr_t>(next) ^ link_key_ ^ at;
        *reinterpret_cast<Sealed *>(block) = {link, (link + at) * seal_key_};
    }

    // A free block is handed out: its tag says so from now on, and nothing of the link is left in it.
    Block *claim(Block *block, unsigned class_index) {
        Block *after = next(block);
        Tag *tag = tag_at(slab_of<Hardened>(block, mask_), block);
        if (*tag != Tag::free) [[unlikely]]
            report_written(block, "ready to be handed out although it is not free");
        *tag = live(class_index);
        *reinterpret_cast<Sealed *>(block) = {};
        return after;
    }

    // The slab of a small block that is freed, which is tagged free from now on.
    Slab *disown(const void *ptr, std::size_t size) {
        const auto at = reinterpret_cast<std::uintptr_t>(ptr);
        const Extent *extent = pages_.map().find(reinterpret_cast<void *>(at & mask_));
        if (at % 16 != 0 || extent == nullptr || !is_cut(*extent)) [[unlikely]]
            report_wrong(ptr, size);
        Slab *slab = slab_of<Hardened>(ptr, mask_);
        Tag *tag = tag_at(slab, ptr);
        const auto *guard = reinterpret_cast<const std::uintptr_t *>(slab) - 1;
        const bool guarded = *guard == guard_word(guard_key_, guard);
        if (!guarded || (*tag != live(class_of(size)) && !is_short_closure(*tag, size))) [[unlikely]]
            report_wrong(ptr, size);
        *tag = Tag::free;
        return slab;
    }

    // ---- Slabs

    // Reports where the guards of a slab's header are not whole; a slow path, before the header decides.
    Slab *verify(Slab *slab) const;
    void verify_map() const;
    void on_slab(Slab *slab) const;
    // A piece of the nursery has got its header. There must be room for it in the map.
    void on_piece(Slab *slab);
    static void on_give(Slab *) {}
    // A new use of a slab: no blocks are in it.
    void on_format(Slab *slab) const;
    // Fresh blocks, linked plainly: from now on as next() reads it, and tagged free.
    void on_carve(Block *blocks) const;

    // ---- Blocks

    // Reports where no block in use of `size` bytes begins at `ptr`.
    void verify_live(const void *ptr, std::size_t size) const;
    // A block of the nursery, just made: small, the state's, or large.
    void on_new(const void *ptr, unsigned class_index) const;
    void on_new_state(const void *ptr) const;
    void on_new_kept(const void *ptr, std::size_t size) const;
    // A large block is kept for reuse, and used again.
    void on_keep(const void *ptr, bool in_nursery) const;
    void on_reuse(void *ptr, std::size_t size, bool in_nursery) const;
    // A block that could not move is to be known by a smaller size; `extent`: it is an extent of its own.
    void on_shrink(const void *ptr, std::size_t size, bool extent) const;

  private:
    struct Sealed {
        std::uintptr_t link;  // disguised
        std::uintptr_t seal;
    };

    static constexpr unsigned state_class = class_count + kept_classes;
    static constexpr Tag live(unsigned class_index) {
        return static_cast<Tag>(static_cast<unsigned>(Tag::live) + class_index);
    }
    static constexpr unsigned class_in(Tag tag) {
        return static_cast<unsigned>(tag) - static_cast<unsigned>(Tag::live);
    }

    // Whether an entry of the map is cut into blocks, and has tags.
    static bool is_cut(const Extent &extent) { return extent.is(Extent::slab) || extent.is(Extent::nursery); }

    static Tag *tags_of(Slab *slab) { return reinterpret_cast<Tag *>(slab + 1); }
    Tag *tag_at(Slab *slab, const void *ptr) const {
        return &tags_of(slab)[(reinterpret_cast<std::uintptr_t>(ptr) & ~mask_) / 16];
    }
    char *rear_guard(Slab *slab) const { return reinterpret_cast<char *>(tags_of(slab)) + ~mask_ / 16 + 1; }

    // Whether a small block that is freed may be larger than LuaJIT says: a closure, after a refusal.
    bool is_short_closure(Tag tag, std::size_t size) const {
        if (!pages_.budget().counts().has_refused() || size - 1 >= max_small) return false;
        if (tag <= live(class_of(size)) || tag >= live(class_count)) return false;
        const std::size_t longest = std::min(size + luajit::max_upvalues_size, max_small);
        return class_size(class_in(tag)) <= class_size(class_of(longest));
    }

    bool is_in_nursery(const void *ptr) const;
    // The tag of an address in one of the heap's slabs; null for any other.
    Tag *find_tag(const void *ptr) const;
    Tag expected_tag(const void *ptr, std::size_t size) const;
    // The largest size of a class, as tags count classes.
    std::size_t tagged_size(unsigned class_index) const;

    // `ptr` was handed in as a block of `size` bytes and is not one. Prints what is known of it, then aborts.
    [[noreturn, gnu::cold]] void report_wrong(const void *ptr, std::size_t size) const;
    // A free block, or what lies before or after a slab's header, was written to.
    [[noreturn, gnu::cold]] void report_written(const void *ptr, const char *what) const;
    [[noreturn, gnu::cold, gnu::format(printf, 3, 4)]] void report(const void *ptr, const char *format,
                                                                   ...) const;

    Pages &pages_;
    const Identity &owner_;
    std::size_t small_max_;
    std::uintptr_t mask_;
    std::uintptr_t link_key_;
    std::uintptr_t seal_key_;  // odd
    std::uintptr_t guard_key_;
};

}  // namespace jemalloc_lua
