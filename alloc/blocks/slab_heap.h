// The slab heap: its memory, and the rules that hold in it. See README.md for the same with a drawing.
//
//   nursery (one jemalloc region, 128 KiB of address space, touched only as used)
//   +------+------------+-------------+----------------------------------+ - - -
//   | Slab | SlabHeap   | state block | first blocks, any size  ->       |  Slab ...
//   +------+------------+-------------+----------------------------------+ - - -
//
//   slab (32 KiB, aligned to its size, blocks of one class)
//   +---------------+------+---------------------------------------------+
//   | <- then these | Slab |                 <- fresh blocks from here   |
//   +---------------+------+---------------------------------------------+
//
// The header of a slab is found from the address of any block in it: round down to the slab's size, add the
// colour. The colour (0 to 63 cache lines, by address) spreads the headers over the sets of the CPU's caches;
// without it all would compete for the same few lines.
//
// What malloc takes: heap->free[class], a list of blocks that are ready. It does not look at any slab. When
// the list is empty, refill() gets the next one: what was freed in the class's current slab since, some more
// of its fresh blocks, another slab.
//
// What free does: push the block on its slab's own list and count down. No block's class is looked up, since
// a slab has only one. The countdown reaches zero when something has to happen to the slab, and means
// something else for each state of it:
//
//   state     countdown runs out when                                   then it becomes
//   current   all its blocks are free                                   (stays current)
//   full      an eighth of its blocks are free: worth handing out       partial
//   partial   all its blocks are free                                   empty
//   nursery   some blocks are free: each goes to heap->free[class],     (stays nursery)
//             unless the heap has slabs enough
//
// Blocks in heap->free[] count as used. So used == countdown + spare, for every slab but the nursery's.
//
// With harden:true there is more to a slab, and links are not plain: slab_harden.h. The slow paths serve both
// kinds of heap, and use link() and next_of() from there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heap/heap.h"
#include "system/kernel.h"
#include "base/address_table.h"

#if defined(__SANITIZE_ADDRESS__)
#define JEMALLOC_LUA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JEMALLOC_LUA_ASAN 1
#endif
#endif

#if defined(JEMALLOC_LUA_ASAN)
#include <sanitizer/asan_interface.h>
// Freed blocks are poisoned; the functions that read the links in them are not checked.
#define JEMALLOC_LUA_TOUCHES_FREED __attribute__((no_sanitize("address")))
#else
#define JEMALLOC_LUA_TOUCHES_FREED
#endif

namespace jemalloc_lua {

inline void poison([[maybe_unused]] void *block, [[maybe_unused]] std::size_t size) {
#if defined(JEMALLOC_LUA_ASAN)
    ASAN_POISON_MEMORY_REGION(block, size);
#endif
}

inline void unpoison([[maybe_unused]] void *block, [[maybe_unused]] std::size_t size) {
#if defined(JEMALLOC_LUA_ASAN)
    ASAN_UNPOISON_MEMORY_REGION(block, size);
#endif
}

// ---- Size classes of small blocks: steps of 16 bytes to 256, of 32 to 512, of 64 to 1024

inline constexpr unsigned class_count = 32;

constexpr std::size_t class_size(unsigned index) {
    if (index < 16) return 16 * (index + 1);
    if (index < 24) return 256 + 32 * (index - 15);
    return 512 + 64 * (index - 23);
}

// By size in units of 16 bytes, rounded up.
inline constexpr auto class_table = [] {
    std::array<std::uint8_t, max_small / 16 + 1> table{};
    unsigned index = 0;
    for (std::size_t units = 1; units < table.size(); ++units) {
        if (units * 16 > class_size(index)) ++index;
        table[units] = static_cast<std::uint8_t>(index);
    }
    return table;
}();

constexpr unsigned class_of(std::size_t size) {
    return class_table[(size + 15) / 16];
}

// ---- Memory

// A free block; the rest of it is whatever it last held.
struct Block {
    Block *next;
    std::size_t size;  // as it was freed; not in a hardened heap
};
static_assert(sizeof(Block) == class_size(0));

enum class SlabState : std::uint8_t { nursery, current, full, partial, empty };

struct alignas(64) Slab {
    Block *free = nullptr;        // freed since the list was last taken, the newest first
    std::uint32_t countdown = 1;  // frees until slab_event()
    std::uint32_t spare = 0;      // blocks in use that the countdown does not count
    std::uint32_t carved = 0;     // blocks made so far of the fresh memory
    std::uint32_t fresh = 0;      // offset of the end of the fresh memory ...
    std::uint32_t floor = 0;      // ... and of its start
    std::uint8_t class_index = 0;
    SlabState state = SlabState::nursery;
    bool at_home = false;  // on the shared arena of a heap that may leave it, or has
    Slab *next = nullptr;
    Slab *prev = nullptr;

    std::uint32_t used() const { return countdown + spare; }
};
static_assert(sizeof(Slab) == 64);

// Slabs of one state, oldest first.
struct SlabList {
    Slab *first = nullptr;
    Slab *last = nullptr;

    void push_back(Slab *slab) {
        slab->prev = last;
        slab->next = nullptr;
        (last != nullptr ? last->next : first) = slab;
        last = slab;
    }
    void remove(Slab *slab) {
        (slab->prev != nullptr ? slab->prev->next : first) = slab->next;
        (slab->next != nullptr ? slab->next->prev : last) = slab->prev;
    }
};

// Freed blocks above small_max and up to max_cached are kept by jemalloc's size class.
inline constexpr std::size_t max_cached = std::size_t{32} << 10;
inline constexpr unsigned cached_classes = 40;

// Index of jemalloc's size class for sizes 65 to max_cached.
constexpr unsigned cached_class(std::size_t size) {
    const auto ceil_lg = static_cast<unsigned>(std::bit_width(size - 1));
    return (ceil_lg - 7) * 4 + static_cast<unsigned>((size - 1) >> (ceil_lg - 3) & 3);
}
static_assert(cached_class(65) == 0 && cached_class(max_cached) < cached_classes);

struct SlabHeap : Heap {
    SlabHeap(const FrontEnd &front, const Options &options, std::size_t nursery_bytes, unsigned arena);

    // What malloc and free touch.
    alignas(64) std::array<Block *, class_count> free{};
    std::size_t small_max;
    std::uintptr_t slab_base;  // mask of the bits that slabs are aligned to
    std::size_t slab_count = 0;
    std::size_t early_frees = 0;     // frees of small blocks of classes that had no slab
    std::uint32_t slab_classes = 0;  // bits of the classes that have had a slab, since there was none
    bool is_small = true;            // slabs amount to three times the nursery at most

    // Slabs.
    std::array<Slab *, class_count> current{};
    std::array<SlabList, class_count> partial{};
    SlabList full;
    SlabList empty;
    std::size_t empty_count = 0;
    // Of what was released, to tell what is taken again: jemalloc serves a request from what fits it, and is
    // at most 64 times larger (opt.lg_extent_max_active_fit).
    std::size_t largest_released = 0;
    unsigned retain;

    // Nursery: [nursery_fresh, nursery_end) is untouched. What lies in front of the heap, up to 4 KB, serves
    // the first small blocks, down to nursery_low. Slab-sized pieces have headers, and count, up to
    // nursery_ready.
    std::uintptr_t nursery_start = 0;
    std::uintptr_t nursery_low = 0;
    std::uintptr_t nursery_fresh = 0;
    std::uintptr_t nursery_ready = 0;
    std::uintptr_t nursery_end = 0;

    // Larger blocks.
    std::array<Block *, cached_classes> cached{};
    std::size_t cached_bytes = 0;
    std::size_t large_blocks = 0;
    std::size_t large_bytes = 0;
    std::size_t huge_min;
    int thp;
    HugePages huge_pages;
    bool shrinking = false;  // a block moves into a smaller one: the limit does not stop that
    bool harden;             // it is a HardSlabHeap, see slab_harden.h

    // Large blocks on the shared arena of a heap that may leave it. All of them, unless there was no memory
    // for the list, or the heap is one whose blocks are freed one by one at its end as well.
    Registry home_blocks;
    bool knows_home_blocks;

    // Bytes went back to jemalloc; `at_home`: where a heap with an arena of its own takes none from any more.
    void give(std::size_t bytes, bool at_home) {
        if (at_home && source.owns_arena()) return source.give_behind(bytes);
        released += bytes;
        if (bytes > largest_released) largest_released = bytes;
    }
    void reuse(std::size_t bytes) {
        if (bytes > largest_released || bytes < largest_released >> 6) return;
        released -= bytes < released ? bytes : released;
    }
    std::size_t slab_size() const { return ~slab_base + 1; }
    bool in_nursery(const void *ptr) const {
        return reinterpret_cast<std::uintptr_t>(ptr) - nursery_start < nursery_end - nursery_start;
    }
};

constexpr std::uintptr_t colour(std::uintptr_t base) {
    return (base >> 9) & 0xFC0;
}

// How many freed blocks of a piece of the nursery wait until they are ready again. A piece has blocks of all
// classes, so a free can't make its block ready without a look at where it is; but the garbage of a small
// state lies in its nursery and in slabs by turns, and no CPU foretells that branch. In a hardened heap,
// where blocks do not say how large they were, it is one.
inline std::uint32_t nursery_batch(const SlabHeap *heap) {
    return heap->harden ? 1 : 16;
}

// What a hardened slab has on both sides of its header.
inline constexpr std::size_t guard_size = 64;

template <bool harden>
Slab *slab_at(std::uintptr_t base) {
    return reinterpret_cast<Slab *>(base + colour(base) + (harden ? guard_size : 0));
}

template <bool harden>
Slab *slab_of(const SlabHeap *heap, const void *block) {
    return slab_at<harden>(reinterpret_cast<std::uintptr_t>(block) & heap->slab_base);
}

// The same where it is not known which kind of heap it is.
inline Slab *slab_at(const SlabHeap *heap, std::uintptr_t base) {
    return heap->harden ? slab_at<true>(base) : slab_at<false>(base);
}

// Where the bytes of a slab begin and end that are no blocks: its header, and what hardening adds.
constexpr std::uintptr_t header_start(std::uintptr_t base) {
    return base + colour(base);
}
constexpr std::uintptr_t header_end(bool harden, std::size_t slab_size, std::uintptr_t base) {
    return header_start(base) + sizeof(Slab) + (harden ? 2 * guard_size + slab_size / 16 : 0);
}
inline std::uintptr_t header_end(const SlabHeap *heap, std::uintptr_t base) {
    return header_end(heap->harden, heap->slab_size(), base);
}

inline std::uintptr_t base_of(const SlabHeap *heap, const Slab *slab) {
    return reinterpret_cast<std::uintptr_t>(slab) & heap->slab_base;
}

// scrub: what a block loses as it shrinks in its place.
inline void scrub_tail(void *ptr, std::size_t old_size, std::size_t new_size) {
    if (new_size < old_size) explicit_bzero(static_cast<char *>(ptr) + new_size, old_size - new_size);
}

// ---- Slow paths

// slab_pages.cpp: the next block of a class when its list is empty; null when out of memory.
void *refill(SlabHeap *heap, unsigned class_index);
// So many frees of classes without a slab are counted at a time.
inline constexpr std::size_t early_batch = 64;
void *count_early(SlabHeap *heap);  // null
// A slab's countdown has run out; `block` of `size` bytes was the last one freed. Null.
void *slab_event(SlabHeap *heap, Slab *slab, Block *block, std::size_t size);
// The next piece of the nursery gets its header.
void open_piece(SlabHeap *heap);
// Memory from the nursery, or null.
void *nursery_bump(SlabHeap *heap, std::size_t size);
// Gives back what is idle beyond `retain`: after a slab has emptied or a region went back to jemalloc.
void retain_some(SlabHeap *heap);
// Returns the arena's unused pages to the system.
void purge(SlabHeap *heap);
// The footprint has grown: the heap may take an arena of its own.
void grow(SlabHeap *heap);
// Empties caches, so that a request that does not fit the limit may fit after all.
void reclaim(SlabHeap *heap);
std::size_t slab_trim(SlabHeap *heap);
void release_slabs(SlabHeap *heap);

// slab_large.cpp: blocks above small_max.
void *large_alloc(SlabHeap *heap, std::size_t size);
void *large_free(SlabHeap *heap, void *ptr, std::size_t size);  // null
// Between any two sizes of which at least one is large. Null: not enough memory, the block is as before.
void *large_resize(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size);
void flush_cached(SlabHeap *heap);
// What a state that was closed without a visit to each object left on the shared arena.
void release_home_blocks(SlabHeap *heap);

// Counts bytes against the limit, emptying caches where that helps.
bool take(SlabHeap *heap, std::size_t bytes);

}  // namespace jemalloc_lua
