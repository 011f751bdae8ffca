// Blocks above small_max of a slab heap: jemalloc regions, with two things added.
//
// Up to max_cached, freed blocks are kept for the next request of their class: hash parts and arrays of
// growing tables come and go, and jemalloc without a tcache takes 40 ns for each. The cache is bounded by a
// share of the footprint.
//
// From huge_min up, a block grows by moving its pages rather than its contents (huge_pages.h), as a rule.
// jemalloc allocates the new region and frees the old one as ever, and its records stay true, since both
// ranges stay mapped. Where the kernel refuses, the contents are copied.

#include <algorithm>
#include <bit>
#include <cstring>

#include "check/memcheck.h"
#include "blocks/slab_harden.h"

namespace jemalloc_lua {
namespace {

// The cache of freed blocks holds at most this, or this share of the footprint.
constexpr std::size_t min_cache = std::size_t{256} << 10;
constexpr std::size_t cache_share = 2;

bool is_huge(const SlabHeap *heap, std::size_t size) {
    return size >= heap->huge_min;
}

// Huge pages are not the default: to fill a block takes 0.4 to 0.6 of the time, but several times as long
// where the kernel has to make room first, or a hypervisor has taken free memory back, as in Firecracker.
bool wants_huge_pages(const SlabHeap *heap, std::size_t size) {
    return heap->thp == JEMALLOC_LUA_THP_ALWAYS && is_huge(heap, size) && size >= huge_page;
}

// Huge regions are aligned to pages: jemalloc gives others an offset of some cache lines.
int region_flags(const SlabHeap *heap, std::size_t size) {
    return is_huge(heap, size) ? je::align_flag(page_size()) : 0;
}

// Where a page table maps nothing else, the kernel moves it as a whole: 512 pages at the price of one. Only
// what grows to many of them is aligned for that. jemalloc seldom finds an aligned range in what was freed,
// even where there are many (eset_fit_alignment() in jemalloc 5.3 looks at one of each size), and takes fresh
// memory.
constexpr std::size_t min_aligned = 4 * huge_page;

int new_region_flags(const SlabHeap *heap, std::size_t size, bool grows) {
    const bool aligned =
        (grows && is_huge(heap, size) && size >= min_aligned) || wants_huge_pages(heap, size);
    return heap->source.flags() | (aligned ? je::align_flag(huge_page) : region_flags(heap, size));
}

// LuaJIT clears a table's parts as soon as it has them: arrays of 2^n + 1 values, hash parts of 2^n nodes.
// Buffers and userdata, which may never be filled, have other sizes.
bool is_table_part(std::size_t size) {
    constexpr std::size_t value = 8;
    constexpr std::size_t node = 24;
    return std::has_single_bit(size - value) || (size % node == 0 && std::has_single_bit(size / node));
}

// How much of what a huge block gains is surely written next. Of a buffer that doubles since it is full, a
// quarter is taken for that.
std::size_t surely_written(std::size_t old_size, std::size_t new_size) {
    const std::size_t gained = new_size - old_size;
    if (is_table_part(new_size)) return gained;
    return std::min(gained, old_size) / 4;
}

bool is_cached_size(const SlabHeap *heap, std::size_t size) {
    return size > heap->small_max && size <= max_cached;
}

// Bytes of the region of a block of `size` bytes. After a refusal it may be larger than Lua knows: it could
// not shrink.
std::size_t held(const SlabHeap *heap, const void *ptr, std::size_t size) {
    const bool may_be_longer = heap->account.any_refused() && !heap->in_nursery(ptr);
    return may_be_longer ? je::sallocx(ptr, 0) : je::size_class(size);
}

// ---- Large blocks on the shared arena
//
// A heap on arena:auto begins there, and what lies there goes block by block, whereas an arena of its own is
// emptied as a whole. So that a state can be closed without a visit to each object (sweep_cut.h), and what is
// freed there later is told apart (Source::give_behind()), they are listed; that ends when the heap has left,
// at 4 MiB as a rule.

constexpr std::size_t min_home_blocks = 32;  // entries of the list

std::size_t table_bytes(std::size_t capacity) {
    return capacity * sizeof(Registry::Entry);
}

void free_home_table(SlabHeap *heap, Registry::Entry *entries, std::size_t capacity) {
    if (entries == nullptr) return;
    je::sdallocx(entries, table_bytes(capacity), je::no_tcache_flag);
    heap->account.give(table_bytes(capacity));
}

bool has_room_at_home(SlabHeap *heap) {
    const std::size_t capacity = heap->home_blocks.capacity();
    if (heap->home_blocks.count() < capacity / 2) return true;
    const std::size_t wanted = std::max(2 * capacity, min_home_blocks);
    if (heap->account.footprint() + table_bytes(wanted) > heap->account.limit()) return false;
    void *memory = je::mallocx(table_bytes(wanted), heap->source.flags() | je::zero_flag);
    if (memory == nullptr) return false;
    heap->account.force(table_bytes(wanted));
    Registry::Entry *old = heap->home_blocks.entries();
    heap->home_blocks.move_to(static_cast<Registry::Entry *>(memory), wanted);
    free_home_table(heap, old, capacity);
    return true;
}

void enter_home_block(SlabHeap *heap, const void *ptr) {
    if (!heap->knows_home_blocks) return;
    heap->knows_home_blocks = has_room_at_home(heap);
    if (heap->knows_home_blocks) heap->home_blocks.insert(reinterpret_cast<std::uintptr_t>(ptr), 1);
}

// Whether it was one.
bool forget_home_block(SlabHeap *heap, const void *ptr) {
    return heap->home_blocks.count() > 0 && heap->home_blocks.erase(reinterpret_cast<std::uintptr_t>(ptr));
}

// ---- Regions

// A block that is larger than all that was given back since the last purge finds no room there, and would
// come on top of it. Where such a block comes and goes, it was among what was given back.
bool must_purge_for(const SlabHeap *heap, std::size_t bytes) {
    return heap->released >= huge_page && bytes > heap->released && heap->source.may_own();
}

// A region from jemalloc, for a block that is new or grows. `counted` of its bytes have been counted, and are
// no more when it returns null.
void *region_alloc(SlabHeap *heap, std::size_t size, std::size_t bytes, std::size_t counted, bool grows) {
    if (heap->harden && !reserve_entry(heap)) {
        heap->account.take_back(counted);
        return nullptr;
    }
    if (must_purge_for(heap, bytes)) purge(heap);
    const int flags = new_region_flags(heap, size, grows);
    void *ptr = je::mallocx(bytes, flags);
    if (ptr == nullptr) {
        heap->account.take_back(counted);
        reclaim(heap);
        ptr = je::mallocx(bytes, flags);
        if (ptr == nullptr) {
            heap->account.count_refusal();
            return nullptr;
        }
        heap->account.force(counted);
    }
    if (heap->harden) enter_large(heap, ptr, bytes);
    if (heap->source.may_leave()) enter_home_block(heap, ptr);
    ++heap->large_blocks;
    heap->large_bytes += bytes;
    heap->reuse(bytes);
    grow(heap);
    if (heap->thp == JEMALLOC_LUA_THP_NEVER && is_huge(heap, size)) refuse_huge_pages(ptr, bytes);
    if (wants_huge_pages(heap, size)) heap->huge_pages.add(ptr, bytes);
    return ptr;
}

// Its bytes stay counted.
void region_free(SlabHeap *heap, void *ptr, std::size_t size, std::size_t bytes) {
    if (heap->harden) forget_large(heap, ptr);
    const bool at_home = forget_home_block(heap, ptr);
    heap->huge_pages.withdraw(ptr, bytes);
    memcheck::forget(ptr, bytes);
    je::sdallocx(ptr, bytes, je::no_tcache_flag | region_flags(heap, size));
    --heap->large_blocks;
    heap->large_bytes -= bytes;
    heap->give(bytes, at_home);
}

bool room_in_cache(const SlabHeap *heap, std::size_t bytes) {
    return heap->cached_bytes + bytes <= std::max(min_cache, heap->account.own_footprint() / cache_share);
}

// Grows a huge block by moving its pages. Where the new region has all its own, from a block before, the
// contents are copied: pages that were moved away would have to be had anew, at the price of a fault each.
void *grow_huge(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t old_bytes,
                std::size_t new_size) {
    const std::size_t new_bytes = je::size_class(new_size);
    // No page is held twice, so only the difference counts.
    if (!take(heap, new_bytes - old_bytes)) return nullptr;
    void *moved = region_alloc(heap, new_size, new_bytes, new_bytes - old_bytes, true);
    if (moved == nullptr) return nullptr;
    const bool ready = has_memory(moved, new_bytes);
    const Moved how = ready ? Moved::nothing : move_pages(ptr, old_bytes, moved, new_bytes);
    if (how == Moved::nothing) std::memcpy(moved, ptr, old_size);
    if (heap->scrub && how != Moved::pages) explicit_bzero(ptr, old_size);
    if (how != Moved::nothing) heap->huge_pages.add_again(moved, new_bytes);  // a mapping that was not
    if (!ready) populate_new(static_cast<char *>(moved) + old_size, surely_written(old_size, new_size));
    region_free(heap, ptr, old_size, old_bytes);
    return moved;
}

enum class InPlace { done, refused, impossible };

// Shrinks or grows a region in place. What does not fit the limit there won't elsewhere.
//
// A huge one grows by moving instead. In its place it would reach over the end of its mapping into the next,
// and when it grows once more it could not be moved: of an array that grows to 256 MiB, a copy of 10 MiB.
InPlace resize_in_place(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t old_bytes,
                        std::size_t new_size) {
    const std::size_t new_bytes = je::size_class(new_size);
    const bool grows = new_bytes > old_bytes;
    if (is_huge(heap, old_size) != is_huge(heap, new_size)) return InPlace::impossible;
    if (old_bytes == new_bytes) {
        if (heap->harden) resize_large(heap, ptr, new_bytes);
        if (heap->scrub) scrub_tail(ptr, old_size, new_size);
        return InPlace::done;
    }
    if (std::min(old_bytes, new_bytes) <= max_cached) return InPlace::impossible;
    if (grows && is_huge(heap, old_size) && kernel_moves_pages()) {
        return InPlace::impossible;
    }
    if (grows && !take(heap, new_bytes - old_bytes)) return InPlace::refused;
    if (heap->scrub) scrub_tail(ptr, old_size, new_size);  // before it is jemalloc's
    if (!grows) heap->huge_pages.withdraw(ptr, old_bytes, new_bytes);
    const bool done =
        je::xallocx(ptr, new_bytes, 0, heap->source.flags() | region_flags(heap, new_size)) == new_bytes;
    if (done && heap->harden) resize_large(heap, ptr, new_bytes);
    if (done && grows) heap->huge_pages.add_again(ptr, new_bytes);
    if (done) heap->large_bytes += new_bytes - old_bytes;
    if (grows && !done) heap->account.take_back(new_bytes - old_bytes);
    if (!grows && done) heap->account.give(old_bytes - new_bytes);
    return done ? InPlace::done : InPlace::impossible;
}

// ---- Shrinking where the system has no memory for a smaller block
//
// Lua does not expect that to fail: a collection shrinks tables, stacks and buffers as it goes.

// Whether there is a block of a class without another slab.
bool is_ready(const SlabHeap *heap, unsigned index) {
    const Slab *slab = heap->current[index];
    return heap->free[index] != nullptr || heap->partial[index].first != nullptr ||
           (slab != nullptr && (slab->free != nullptr || slab->fresh - slab->floor >= class_size(index)));
}

// A small block that is larger than it need be; a free can't tell, as a slab knows the class of its blocks.
void *larger_small_block(SlabHeap *heap, std::size_t size) {
    for (unsigned i = class_of(size) + 1; i < class_count && class_size(i) <= heap->small_max; ++i) {
        if (!is_ready(heap, i)) continue;
        void *ptr = heap->front->alloc(heap, nullptr, 0, class_size(i));
        if (ptr != nullptr && heap->harden) mark_again(heap, ptr, size);
        return ptr;
    }
    return nullptr;
}

// A large block stays where it is, and held() tells what it is. What is freed as a small block must lie in a
// slab or in the nursery, since the way of those does not look.
bool stays(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size) {
    const bool small = new_size <= heap->small_max;
    const bool nursery = heap->in_nursery(ptr);
    if (small && !nursery) return false;
    if (!heap->account.any_refused()) heap->account.count_refusal();
    if (ptr == heap->state_block) heap->state_block_size = new_size;
    if (heap->harden && !nursery) resize_large(heap, ptr, je::size_class(new_size));
    if (heap->harden && nursery && (small || ptr != heap->state_block)) {
        mark_new(heap, ptr, small ? class_of(new_size) : class_count + cached_class(new_size));
    }
    if (heap->scrub) scrub_tail(ptr, old_size, new_size);
    return true;
}

}  // namespace

[[gnu::noinline]] JEMALLOC_LUA_TOUCHES_FREED void *large_alloc(SlabHeap *heap, std::size_t size) {
    if (size == 0) return nullptr;
    if (size > PTRDIFF_MAX) {
        heap->account.count_refusal();
        return nullptr;
    }
    if (heap->state_block == nullptr) {
        if (void *ptr = nursery_bump(heap, size)) {
            heap->note_first(ptr, size);
            if (heap->harden) mark_new(heap, ptr, state_class);
            return ptr;
        }
    }
    const std::size_t bytes = je::size_class(size);
    ++heap->requests;
    if (is_cached_size(heap, size)) {
        Block *&list = heap->cached[cached_class(size)];
        if (list != nullptr) {
            Block *block = list;
            list = next_of(heap, block);
            unpoison(block, bytes);
            if (heap->harden) reuse_large(heap, block, size);
            if (heap->in_nursery(block)) return block;
            heap->cached_bytes -= bytes;
            ++heap->large_blocks;
            heap->large_bytes += bytes;
            return block;
        }
        if (void *ptr = nursery_bump(heap, bytes)) {
            if (heap->harden) mark_new(heap, ptr, class_count + cached_class(size));
            return ptr;
        }
    }
    if (!take(heap, bytes)) return nullptr;
    void *ptr = region_alloc(heap, size, bytes, bytes, false);
    if (ptr == nullptr) return nullptr;
    heap->note_first(ptr, size);
    if (is_huge(heap, size)) populate_new(ptr, surely_written(0, size));
    return ptr;
}

[[gnu::noinline]] JEMALLOC_LUA_TOUCHES_FREED void *large_free(SlabHeap *heap, void *ptr, std::size_t size) {
    if (ptr == nullptr) return nullptr;
    if (heap->harden) verify_live(heap, ptr, size);
    if (heap->ends_with(ptr)) {
        end_with_state(heap);
        return nullptr;
    }
    const std::size_t bytes = held(heap, ptr, size);
    const bool nursery = heap->in_nursery(ptr);
    const bool keep = nursery || (is_cached_size(heap, bytes) && room_in_cache(heap, bytes));
    if (heap->harden && keep) {
        if (!nursery) resize_large(heap, ptr, bytes);
        keep_large(heap, ptr);
    }
    if (nursery && (ptr == heap->state_block || !is_cached_size(heap, bytes))) return nullptr;
    if (!keep) {
        region_free(heap, ptr, size, bytes);
        heap->account.give(bytes);
        retain_some(heap);
        return nullptr;
    }
    if (!nursery) {
        --heap->large_blocks;
        heap->large_bytes -= bytes;
        heap->cached_bytes += bytes;
    }
    auto *block = static_cast<Block *>(ptr);
    Block *&list = heap->cached[cached_class(bytes)];
    link(heap, block, list);
    list = block;
    poison(ptr, bytes);
    return nullptr;
}

[[gnu::noinline]] void *large_resize(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size) {
    if (new_size > PTRDIFF_MAX) {
        heap->account.count_refusal();
        return nullptr;
    }
    const bool both_large = old_size > heap->small_max && new_size > heap->small_max;
    const bool grows = new_size > old_size;
    if (both_large) {
        if (heap->in_nursery(ptr)) {
            // The first block is as large as was asked for, not as its class.
            const bool same = je::size_class(old_size) == je::size_class(new_size);
            if (same && ptr != heap->state_block) {
                if (heap->scrub) scrub_tail(ptr, old_size, new_size);
                return ptr;
            }
        } else {
            const std::size_t old_bytes = held(heap, ptr, old_size);
            const InPlace in_place = resize_in_place(heap, ptr, old_size, old_bytes, new_size);
            if (in_place == InPlace::done) return ptr;
            if (in_place == InPlace::refused) return nullptr;
            if (is_huge(heap, old_size) && je::size_class(new_size) > old_bytes) {
                return grow_huge(heap, ptr, old_size, old_bytes, new_size);
            }
        }
    }
    const lua_Alloc alloc = heap->front->alloc;
    // Lua does not expect that a block can't shrink, so the limit does not stop that.
    heap->shrinking = !grows;
    void *moved = alloc(heap, nullptr, 0, new_size);
    if (moved == nullptr && !grows) {
        if (stays(heap, ptr, old_size, new_size)) {
            heap->shrinking = false;
            return ptr;
        }
        moved = larger_small_block(heap, new_size);
    }
    heap->shrinking = false;
    if (moved == nullptr) return nullptr;
    std::memcpy(moved, ptr, grows ? old_size : new_size);
    alloc(heap, ptr, old_size, 0);
    return moved;
}

JEMALLOC_LUA_TOUCHES_FREED void flush_cached(SlabHeap *heap) {
    for (unsigned i = 0; i < cached_classes; ++i) {
        Block *kept = nullptr;
        while (Block *block = heap->cached[i]) {
            heap->cached[i] = next_of(heap, block);
            if (heap->in_nursery(block)) {
                link(heap, block, kept);
                kept = block;
                continue;
            }
            if (heap->harden) forget_large(heap, block);
            const bool at_home = forget_home_block(heap, block);
            const std::size_t bytes = je::sallocx(block, 0);
            unpoison(block, bytes);
            memcheck::forget(block, bytes);
            je::sdallocx(block, bytes, je::no_tcache_flag);
            heap->cached_bytes -= bytes;
            heap->account.give(bytes);
            heap->give(bytes, at_home);
        }
        heap->cached[i] = kept;
    }
}

void release_home_blocks(SlabHeap *heap) {
    Registry &blocks = heap->home_blocks;
    for (std::size_t i = 0; i < blocks.capacity(); ++i) {
        if (blocks.entries()[i].key == 0) continue;
        void *ptr = reinterpret_cast<void *>(blocks.entries()[i].key);
        const std::size_t bytes = je::sallocx(ptr, 0);
        memcheck::forget(ptr, bytes);
        je::sdallocx(ptr, bytes, je::no_tcache_flag);
    }
    free_home_table(heap, blocks.entries(), blocks.capacity());
}

}  // namespace jemalloc_lua
