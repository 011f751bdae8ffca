// Large blocks: extents of their own, with two things added.
//
// Up to max_kept, freed blocks are kept for the next request of their class: hash parts and arrays of growing
// tables come and go, and jemalloc without a tcache takes 40 ns for each, and 400 ns for one above 14 KiB.
// What is kept is bounded by policy/retention.h. Blocks of the nursery are always kept, since they are no
// extents.
//
// From huge_min up, a block grows by moving its pages rather than its contents (pages/growth.cpp), as a rule.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "blocks/nursery.h"
#include "blocks/size_class.h"
#include "blocks/small.h"
#include "pages/pages.h"

namespace jemalloc_lua {

template <class Links>
class LargeBlocks {
  public:
    struct Counts {
        std::size_t blocks;  // extents with a block in use
        std::size_t bytes;   // of those
        std::uint64_t requests;
    };

    LargeBlocks(SmallBlocks<Links> &small, Pages &pages, Nursery<Links> &nursery)
        : small_(small), links_(small.links()), pages_(pages), nursery_(nursery) {}
    LargeBlocks(const LargeBlocks &) = delete;
    LargeBlocks &operator=(const LargeBlocks &) = delete;

    // `size` is above small_max. Null: refused, and counted.
    void *alloc(std::size_t size);
    // `bytes` of memory are the block's.
    void free(void *ptr, std::size_t bytes);

    // In its place, or by moving its pages. `elsewhere`: the caller allocates, copies and frees.
    enum class Outcome { done, refused, elsewhere };
    struct Resized {
        Outcome outcome;
        void *ptr;
    };
    Resized resize(void *ptr, std::size_t old_size, std::size_t new_size);

    // A block that could not move into a smaller one stays where it is. False: in a hardened heap a block
    // that is freed as a small one must lie in a slab or in the nursery.
    bool stay(void *ptr, std::size_t new_size);

    // Gives kept blocks that are extents to Pages, the largest first, until so many bytes are given, and all
    // that share pages with other blocks.
    void release_kept(std::size_t bytes);
    std::size_t kept_bytes() const { return kept_bytes_; }

    Counts counts() const {
        const Pages::Counts &all = pages_.counts();
        return {all.blocks - kept_blocks_, all.block_bytes - kept_bytes_, requests_};
    }

  private:
    // Where jemalloc rounds large sizes to pages, kept_class() holds up to max_in_nursery alone.
    bool may_be_kept(std::size_t bytes) const {
        if (bytes <= max_in_nursery) return true;
        return bytes <= max_kept && !pages_.settings().is_huge(bytes) && je::classes_go_on_doubling();
    }
    bool is_kept_size(std::size_t bytes) const { return !small_.serves(bytes) && may_be_kept(bytes); }
    void *take_kept(std::size_t size);
    void keep(void *ptr, std::size_t bytes, bool in_nursery);
    void keep_aside();

    std::array<Block *, kept_classes> kept_{};
    std::size_t kept_blocks_ = 0;  // extents alone
    std::size_t kept_bytes_ = 0;
    std::uint64_t requests_ = 0;
    SmallBlocks<Links> &small_;
    Links &links_;
    Pages &pages_;
    Nursery<Links> &nursery_;
};

}  // namespace jemalloc_lua
