// harden:true for the slab heap: a wrong program ends in a report, not in a heap that is someone else's.
//
//   hardened slab
//   +--------+-------+------+-----------------+-------+--------------------+
//   | blocks | guard | Slab | marks, 1/16th   | guard |             blocks |
//   +--------+-------+------+-----------------+-------+--------------------+
//
// Marks say what begins at each 16 bytes of the slab: nothing, a block in use and its class, or a free block.
// Each free and realloc is held against them, so a second free, a free with another class's size and a free
// of what is no block are found at once. Nothing is handed out that is not marked free.
//
// Links of free blocks are disguised with a key of the heap's, and sealed with another: a write to the first
// 16 bytes of a freed block is found before the link is followed.
//
// Guards are a line of words on both sides of the header. What runs over the header from a block runs over a
// guard first. Each free looks at the word next to the header, and each slow path, before the header decides
// anything, at both lines.
//
// The registry knows the slabs and the large blocks of the heap, so no address that a wrong program hands in
// is followed before it is known to be the heap's.
//
// Keys are from the kernel, one set for each heap. They are no secret from who can read the heap's memory.
#pragma once

#include <algorithm>

#include "blocks/slab_heap.h"

namespace jemalloc_lua {

// ---- Marks

// What a mark says: nothing begins here, a free block, a block in use of class mark - mark_live. Classes of
// larger blocks, which only the nursery holds, follow those of small ones; then comes the state's block.
inline constexpr std::uint8_t mark_none = 0;
inline constexpr std::uint8_t mark_free = 1;
inline constexpr std::uint8_t mark_live = 2;
inline constexpr unsigned state_class = class_count + cached_classes;

inline std::uint8_t *marks_of(Slab *slab) {
    return reinterpret_cast<std::uint8_t *>(slab + 1);
}

constexpr std::uint8_t live_mark(unsigned class_index) {
    return static_cast<std::uint8_t>(mark_live + class_index);
}

// ---- The heap

struct HardSlabHeap : SlabHeap {
    // Without memory for its registry: start() gets that.
    HardSlabHeap(const FrontEnd &front, const Options &options, std::size_t nursery_bytes, unsigned arena);

    // False when out of memory.
    bool start();
    ~HardSlabHeap();

    std::uintptr_t link_key;
    std::uintptr_t seal_key;  // odd
    std::uintptr_t guard_key;
    Registry registry;  // slabs by their start; large blocks, with their bytes
};

// What the registry has for a slab, and adds to the bytes of a large block that is free and kept for reuse.
inline constexpr std::uintptr_t slab_entry = 2;
inline constexpr std::uintptr_t free_entry = 1;

inline HardSlabHeap *hard(SlabHeap *heap) {
    return static_cast<HardSlabHeap *>(heap);
}

// What a guard holds at an address.
inline std::uintptr_t guard_word(const HardSlabHeap *heap, const std::uintptr_t *word) {
    return heap->guard_key ^ reinterpret_cast<std::uintptr_t>(word);
}

// ---- What every malloc and free does more

struct HardBlock {
    std::uintptr_t link;  // disguised
    std::uintptr_t seal;
};

// `ptr` was handed in as a block of `size` bytes, and is none. Prints what is known of it, and aborts.
[[noreturn, gnu::cold]] void report_wrong(SlabHeap *heap, const void *ptr, std::size_t size);
// A free block, or what lies before or after a slab's header, was written to.
[[noreturn, gnu::cold]] void report_written(SlabHeap *heap, const void *ptr, const char *what);

JEMALLOC_LUA_TOUCHES_FREED inline void hard_link(HardSlabHeap *heap, void *ptr, const void *next) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const std::uintptr_t link = reinterpret_cast<std::uintptr_t>(next) ^ heap->link_key ^ at;
    *static_cast<HardBlock *>(ptr) = {link, (link + at) * heap->seal_key};
}

JEMALLOC_LUA_TOUCHES_FREED inline Block *hard_next(HardSlabHeap *heap, const void *ptr) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const HardBlock block = *static_cast<const HardBlock *>(ptr);
    if (block.seal != (block.link + at) * heap->seal_key) [[unlikely]]
        report_written(heap, ptr, "written to after it was freed");
    return reinterpret_cast<Block *>(block.link ^ heap->link_key ^ at);
}

inline std::uint8_t *mark_at(SlabHeap *heap, Slab *slab, const void *ptr) {
    return &marks_of(slab)[(reinterpret_cast<std::uintptr_t>(ptr) & ~heap->slab_base) / 16];
}

// A free block that is handed out: its mark says so from now on, and nothing of the link is left in it.
// Returns the block after it.
JEMALLOC_LUA_TOUCHES_FREED inline Block *claim(SlabHeap *heap, Block *block, unsigned class_index) {
    Block *next = hard_next(hard(heap), block);
    std::uint8_t *mark = mark_at(heap, slab_of<true>(heap, block), block);
    if (*mark != mark_free) [[unlikely]]
        report_written(heap, block, "ready to be handed out although it is not free");
    *mark = live_mark(class_index);
    *reinterpret_cast<HardBlock *>(block) = {};
    return next;
}

// Whether a small block that is freed may be larger than LuaJIT says: a closure, after a refusal.
inline bool is_short_closure(const SlabHeap *heap, std::uint8_t mark, std::size_t size) {
    if (!heap->account.any_refused() || size - 1 >= heap->small_max) return false;
    if (mark <= live_mark(class_of(size)) || mark >= live_mark(class_count)) return false;
    return class_size(mark - mark_live) <=
           class_size(class_of(std::min(size + max_upvalues_size, max_small)));
}

// The slab of a small block that is freed, which is marked free from now on.
inline Slab *disown(SlabHeap *heap, const void *ptr, std::size_t size) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const Registry::Entry *entry = hard(heap)->registry.find(at & heap->slab_base);
    if (at % 16 != 0 || entry == nullptr || entry->value != slab_entry) [[unlikely]]
        report_wrong(heap, ptr, size);
    Slab *slab = slab_of<true>(heap, ptr);
    std::uint8_t *mark = mark_at(heap, slab, ptr);
    const auto *guard = reinterpret_cast<const std::uintptr_t *>(slab) - 1;
    if (*mark != live_mark(class_of(size)) || *guard != guard_word(hard(heap), guard)) [[unlikely]] {
        if (!is_short_closure(heap, *mark, size) || *guard != guard_word(hard(heap), guard)) {
            report_wrong(heap, ptr, size);
        }
    }
    *mark = mark_free;
    return slab;
}

// ---- Slow paths

// The next block of a list, and how it is set, in either kind of heap.
JEMALLOC_LUA_TOUCHES_FREED inline Block *next_of(SlabHeap *heap, const Block *block) {
    return heap->harden ? hard_next(hard(heap), block) : block->next;
}
JEMALLOC_LUA_TOUCHES_FREED inline void link(SlabHeap *heap, Block *block, Block *next) {
    if (heap->harden) {
        hard_link(hard(heap), block, next);
    } else {
        block->next = next;
    }
}

// Those below are for hardened heaps only.

// Reports where a block in use of `size` bytes does not begin at `ptr`.
void verify_live(SlabHeap *heap, const void *ptr, std::size_t size);
// A block that could not move shrinks in its place: it is of another class from now on.
void mark_again(SlabHeap *heap, const void *ptr, std::size_t size);
// A block of the nursery's, just made.
void mark_new(SlabHeap *heap, const void *ptr, unsigned class_index);

// A new slab's guards, or a new use of a slab: no marks.
void build_guards(SlabHeap *heap, Slab *slab);
void clear_marks(SlabHeap *heap, Slab *slab);
// Reports where the guards of a slab's header or of the heap's own are not whole.
void verify_guards(SlabHeap *heap, Slab *slab);
// Makes a plain list of fresh blocks into one that hard_next() reads, and marks the blocks free.
void seal_fresh(SlabHeap *heap, Block *blocks);
// The heap ends: the guards that no slab's end looks at.
void verify_nursery(SlabHeap *heap);

// Room in the registry for one more address; false when out of memory.
bool reserve_entry(SlabHeap *heap);
void enter_slab(SlabHeap *heap, Slab *slab);
void forget_slab(SlabHeap *heap, Slab *slab);

// Blocks above small_max. `bytes` is their size class.
void enter_large(SlabHeap *heap, const void *ptr, std::size_t bytes);
void resize_large(SlabHeap *heap, const void *ptr, std::size_t bytes);
void forget_large(SlabHeap *heap, const void *ptr);
// Kept for reuse, and used again.
void keep_large(SlabHeap *heap, const void *ptr);
void reuse_large(SlabHeap *heap, void *ptr, std::size_t size);

}  // namespace jemalloc_lua
