// Small blocks: from slabs of one class each, and from the nursery as long as it has room.
//
// malloc takes the first block of its class's ready list and looks at no slab. When the list is empty,
// refill() gets the next one: a block of the nursery, what was freed in the class's current slab since, some
// more of its fresh memory, another slab. free puts a block on its slab's own list and counts down (slab.h);
// what the countdown's end means is event()'s to decide.
//
// gcc 12 -O2, x86-64, from entry to return of the slab front's function: malloc takes 16 instructions and
// touches three cache lines (the table of classes, the head of the list, the block), free takes 26 and
// touches two (the block, its slab's header). In a small heap free asks the nursery's marks how large the
// block is and whether its class has slabs, for 38 more; where it has none, the block is ready at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "blocks/identity.h"
#include "blocks/nursery.h"
#include "blocks/size_class.h"
#include "blocks/slab.h"
#include "pages/pages.h"

namespace jemalloc_lua {

template <class Links>
class SmallBlocks {
  public:
    struct Counts {
        std::size_t empty_slabs;
        std::uint64_t requests;  // blocks handed out or made ready
    };

    SmallBlocks(std::size_t small_max, Pages &pages, Nursery<Links> &nursery, const Identity &owner)
        : small_max_(small_max), links_(pages, owner, small_max), pages_(pages), nursery_(nursery) {}
    SmallBlocks(const SmallBlocks &) = delete;
    SmallBlocks &operator=(const SmallBlocks &) = delete;

    Links &links() { return links_; }

    // Whether a block of this size is small; one of size 0 is not.
    bool serves(std::size_t size) const { return size - 1 < small_max_; }

    // Null: refused, and counted. `size` is small.
    void *alloc(std::size_t size) {
        const unsigned index = class_of(size);
        Block *block = ready_[index];
        if (block == nullptr) [[unlikely]]
            return refill(index);
        ready_[index] = links_.claim(block, index);
        return block;
    }

    // Returns null, so that the call of the slow path can be the caller's last. The slow path is called as
    // owner.event(slab, block, size), which calls event() below: the owner's address is at hand, and this
    // object's would cost every free an instruction. owner.free_other(ptr, size) frees a block that is no
    // small one.
    template <class Owner>
    [[gnu::always_inline]] void *free(void *ptr, std::size_t size, Owner &owner) {
        auto *block = static_cast<Block *>(ptr);
        // In a large heap, where each class has slabs as a rule, the question is not worth its time.
        if (Links::knows_sizes && is_small_heap_) {
            const std::size_t bytes = owner.nursery().units_at(ptr) * std::size_t{16};
            const unsigned index = class_of(bytes);
            if (serves(bytes) && (classes_with_slabs_ >> index & 1) == 0) {
                return free_early(block, index, size, owner);
            }
        }
        Slab *slab = links_.disown(ptr, size);
        if (slab == nullptr) [[unlikely]]
            return owner.free_other(ptr, size);
        links_.link(block, slab->freed);
        slab->freed = block;
        if (--slab->countdown == 0) [[unlikely]]
            return owner.event(slab, block, size);
        return nullptr;
    }
    // `slab`: its countdown has run out; null: another early_batch of blocks was freed without a slab. Null.
    void *event(Slab *slab, Block *block, std::size_t size);

    // A ready block that is larger than `size` need be; null: there is none without another slab.
    void *alloc_larger(std::size_t size);

    // Blocks that are ready go back to their slabs, so that empty slabs are seen.
    void gather_ready();
    // Gives empty slabs to Pages, the longest empty first, until so many bytes are given, or all. The bytes.
    std::size_t release_empty(std::size_t bytes);
    std::size_t empty_bytes() const { return empty_count_ * slab_size(); }

    Counts counts() const { return {empty_count_, requests_}; }
    // Blocks of the nursery that are no small ones come and go without the footprint, which otherwise decides
    // when the figures are published: each 64th publishes them.
    void count_in_nursery(std::uint32_t blocks) {
        const std::uint64_t before = requests_;
        requests_ += blocks;
        if ((before ^ requests_) >= 64) pages_.budget().publish();
    }

    // What holds for every slab: debug builds assert it after slow paths.
    bool is_valid() const;

  private:
    // ---- Slow paths

    void *refill(unsigned class_index);

    // All blocks of a class without slabs are the nursery's, and each is ready at once.
    template <class Owner>
    void *free_early(Block *block, unsigned index, std::size_t size, Owner &owner) {
        links_.link(block, ready_[index]);
        ready_[index] = block;
        if (++early_frees_ % early_batch == 0) [[unlikely]]
            return owner.event(nullptr, block, size);
        return nullptr;
    }

    std::size_t slab_size() const { return pages_.settings().slab_size; }
    std::uintptr_t base_of(const void *ptr) const {
        return reinterpret_cast<std::uintptr_t>(ptr) & ~(slab_size() - 1);
    }
    void set_slab_count(std::size_t count);

    std::uint32_t fresh_bytes(const Slab *slab) const;
    Block *carve(Slab *slab);
    Block *take_blocks(Slab *slab);
    void format(Slab *slab, unsigned class_index);
    Slab *take_slab();
    void give_slab(Slab *slab);
    void make_current(Slab *slab, unsigned class_index);
    void make_empty(Slab *slab);
    void retire_current(unsigned class_index);
    bool next_current(unsigned class_index);

    bool spares_nursery() const;
    void sort_freed(Slab *piece);
    Block *take_ready(unsigned class_index);
    Block *take_freed_in_nursery(unsigned class_index);
    Block *take_spared(unsigned class_index);

    bool is_valid(const Slab *slab) const;

    static constexpr std::size_t early_batch = 64;

    // What malloc and free touch.
    alignas(64) std::array<Block *, class_count> ready_{};
    std::size_t small_max_;
    Links links_;
    std::size_t early_frees_ = 0;           // frees of blocks whose class had no slab
    std::uint32_t classes_with_slabs_ = 0;  // bits of the classes that have had one, since there was none
    bool is_small_heap_ = true;             // slabs amount to three times the nursery at most

    Pages &pages_;
    Nursery<Links> &nursery_;
    std::array<Slab *, class_count> current_{};
    std::array<SlabList, class_count> partial_{};
    SlabList full_;
    SlabList empty_;
    std::size_t empty_count_ = 0;
    std::size_t slab_count_ = 0;
    std::uint64_t requests_ = 0;
};

}  // namespace jemalloc_lua
