// The heap of the slab front: small blocks from slabs, large ones as extents, the first of all from the
// nursery, in which the heap itself lies.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/fatal.h"
#include "blocks/large.h"
#include "blocks/nursery.h"
#include "blocks/small.h"
#include "heap/heap.h"
#include "pages/pages.h"

namespace jemalloc_lua {

// memcheck takes so much in front of a block for the block's.
inline constexpr std::size_t before_block = 16;

template <class Links>
class SlabHeap final : public Heap, private IdleExtents {
  public:
    // The heap lies in its nursery, which begins at `nursery`.
    SlabHeap(const Front &front, const Options &options, void *nursery, std::size_t nursery_bytes,
             unsigned arena)
        : Heap(front, options, false, arena),
          pages_(budget_, arena_, options, *this),
          small_(class_size(class_of(options.small_max)), pages_, nursery_, state.identity),
          nursery_(reinterpret_cast<std::uintptr_t>(nursery), nursery_bytes,
                   reinterpret_cast<std::uintptr_t>(this + 1) + before_block, pages_, small_.links()),
          large_(small_, pages_, nursery_) {}

    bool start() {
        if (!small_.links().start()) return false;
        nursery_.open_first();
        budget_.take_always(pages_.settings().slab_size);
        return true;
    }

    [[gnu::always_inline]] void *request(void *ptr, std::size_t old_size, std::size_t new_size) {
        if (ptr == nullptr) {
            if (small_.serves(new_size)) [[likely]]
                return small_.alloc(new_size);
            return alloc_large(new_size);
        }
        if (new_size == 0) {
            if (small_.serves(old_size)) [[likely]]
                return small_.free(ptr, old_size, *this);
            return free_large(ptr, old_size);
        }
        return resize(ptr, old_size, new_size);
    }

    // The slow path of small frees: see SmallBlocks::free().
    [[gnu::noinline]] void *event(Slab *slab, Block *block, std::size_t size) {
        return small_.event(slab, block, size);
    }

    // A block that is no small one, whatever the caller says.
    [[gnu::noinline]] void *free_other(void *ptr, std::size_t size) { return free_large(ptr, size); }

    const Nursery<Links> &nursery() const { return nursery_; }

    // Bytes of a block in use. A hardened heap ends here where `size`, the caller's word, is wrong; another
    // one goes by what it knows itself, as LuaJIT's own allocator does.
    std::size_t bytes_of(const void *ptr, std::size_t size) {
        Links &links = small_.links();
        if constexpr (!Links::knows_sizes) {
            links.verify_live(ptr, size);
            return small_.serves(size) || nursery_.contains(ptr) ? size : pages_.map().find(ptr)->bytes();
        } else {
            if (nursery_.contains(ptr)) return nursery_.size_at(ptr);
            const Slab *slab = small_.serves(size) ? links.disown(ptr, size) : nullptr;
            if (slab != nullptr) return class_size(slab->class_index);
            const Extent *extent = pages_.map().find(ptr);
            if (extent != nullptr && !extent->is(Extent::slab)) return extent->bytes();
            const auto base = reinterpret_cast<std::uintptr_t>(ptr) & ~(pages_.settings().slab_size - 1);
            extent = pages_.map().find(reinterpret_cast<void *>(base));
            if (extent == nullptr) {
                fatal("state %p: a block at %p, of %zu bytes as the caller says, is not this heap's",
                      state.identity.state_block, ptr, size);
            }
            return class_size(slab_at<Links>(base)->class_index);
        }
    }

    void verify(const void *block, std::size_t size) { small_.links().verify_live(block, size); }
    bool is_valid() const { return small_.is_valid(); }
    Pages &pages() { return pages_; }

    std::size_t trim() {
        small_.gather_ready();
        return pages_.trim();
    }

    void count(jemalloc_lua_stats &stats) const {
        const auto large = large_.counts();
        stats.front = JEMALLOC_LUA_FRONT_SLAB;
        stats.nursery_used = nursery_.used();
        stats.slabs = pages_.counts().slabs;
        stats.empty_slabs = small_.counts().empty_slabs;
        stats.large_blocks = large.blocks;
        stats.large_bytes = large.bytes;
        stats.cached_bytes = large_.kept_bytes();
        stats.purged = pages_.counts().purged;
    }
    std::uint64_t requests() const { return small_.counts().requests + large_.counts().requests; }

    // The end. The heap's memory is the nursery's, so the caller gets that.
    struct Remains {
        void *memory;
        std::size_t size;
        std::size_t slab_size;
        unsigned arena;
        std::size_t given;  // bytes that the first arena gets back in all
        bool scrub;
    };
    Remains finish() {
        nursery_.any_piece([&](Slab *piece) {
            small_.links().verify(piece);
            return false;
        });
        small_.links().verify_map();
        const std::size_t own = budget_.counts().own() + pages_.dirty();
        const Remains remains{nursery_.memory(),
                              nursery_.size(),
                              pages_.settings().slab_size,
                              arena_.placement().first,
                              std::max(nursery_.size(), arena_.bytes_on_first(own)),
                              scrub_};
        pages_.release_all();
        return remains;
    }

  private:
    [[gnu::noinline]] void *alloc_large(std::size_t size) {
        if (size == 0) return nullptr;
        if (state.identity.state_block == nullptr && size <= PTRDIFF_MAX) {
            if (void *ptr = nursery_.take(size)) {
                note_first(ptr, size);
                small_.links().on_new_state(ptr);
                return ptr;
            }
        }
        void *ptr = large_.alloc(size);
        if (ptr != nullptr) note_first(ptr, size);
        return ptr;
    }

    [[gnu::noinline]] void *free_large(void *ptr, std::size_t size) {
        if (state.ends_with(ptr)) {
            verify(ptr, size);
            end();
            return nullptr;
        }
        // The first block has no class: it is as large as LuaJIT asked for.
        if (ptr == state.identity.state_block && nursery_.contains(ptr)) {
            verify(ptr, size);
            return nullptr;
        }
        const std::size_t bytes = bytes_of(ptr, size);
        if (Links::knows_sizes && small_.serves(bytes)) return small_.free(ptr, bytes, *this);
        large_.free(ptr, bytes);
        return nullptr;
    }

    // Contents move into a block elsewhere.
    void *replace(void *ptr, std::size_t old_size, void *by, std::size_t new_size) {
        std::memcpy(by, ptr, std::min(old_size, new_size));
        if (scrub_) explicit_bzero(ptr, old_size);
        request(ptr, old_size, 0);
        return by;
    }

    [[gnu::noinline]] void *resize(void *ptr, std::size_t old_size, std::size_t new_size) {
        Links &links = small_.links();
        const std::size_t said = old_size;
        old_size = bytes_of(ptr, said);
        if (!small_.serves(old_size) || !small_.serves(new_size))
            return resize_large(ptr, old_size, new_size, said);
        if (class_of(old_size) == class_of(new_size)) return ptr;
        void *by = small_.alloc(new_size);
        if (by != nullptr) return replace(ptr, old_size, by, new_size);
        if (new_size > old_size) return nullptr;
        // Lua does not expect that a block cannot shrink. A block may be larger than its class.
        links.on_shrink(ptr, new_size, false);
        return ptr;
    }

    [[gnu::noinline]] void *resize_large(void *ptr, std::size_t old_size, std::size_t new_size,
                                         std::size_t said) {
        if (new_size > PTRDIFF_MAX) {
            budget_.refuse();
            return nullptr;
        }
        if (!small_.serves(old_size) && !small_.serves(new_size) && ptr != state.identity.state_block) {
            // What Lua knows of a block ends at `said`, if it says the truth.
            const bool is_right = said != 0 && said <= PTRDIFF_MAX && extent_size(said) == old_size;
            const auto resized = large_.resize(ptr, is_right ? said : old_size, new_size);
            if (resized.outcome != LargeBlocks<Links>::Outcome::elsewhere) return resized.ptr;
        }
        const bool shrinks = new_size <= old_size;
        const Pages::Unlimited unlimited(pages_, shrinks);
        void *by = request(nullptr, 0, new_size);
        if (by == nullptr && shrinks) {
            if (large_.stay(ptr, new_size)) {
                if (ptr == state.identity.state_block) state.identity.state_block_size = new_size;
                return ptr;
            }
            by = small_.alloc_larger(new_size);
        }
        return by == nullptr ? nullptr : replace(ptr, old_size, by, new_size);
    }

    std::size_t idle_bytes() const override { return small_.empty_bytes() + large_.kept_bytes(); }
    void release_idle(std::size_t bytes) override {
        const std::size_t released = small_.release_empty(bytes);
        if (released < bytes) large_.release_kept(bytes - released);
    }

    Pages pages_;
    SmallBlocks<Links> small_;
    Nursery<Links> nursery_;
    LargeBlocks<Links> large_;
};

}  // namespace jemalloc_lua
