// The slab front end's allocator function: what every request passes through.
//
// malloc takes 16 instructions and touches three cache lines (the table of classes, the head of the list, the
// block), free takes 24 and touches two (the block, its slab's header): gcc 12 -O2, x86-64, from entry to
// return. In a small heap free looks up whether the class has slabs, for 7 more; where it has none, it takes
// 26 and touches the lines that malloc does. Everything else is a tail call of a slow path in slab_pages.cpp
// or slab_large.cpp. There are no locks and no thread-local storage: a heap belongs to its state.
//
// With harden:true, which is an allocator function of its own, each takes 25 or so more; slab_harden.h has
// them.

#include <cstring>

#include "check/memcheck.h"
#include "blocks/slab_harden.h"

namespace jemalloc_lua {
namespace {

SlabHeap *heap_from(void *ud) {
    return static_cast<SlabHeap *>(static_cast<Heap *>(ud));
}

// *block = {next, size}, in one store of 16 bytes: with one more of 8, a sweep whose blocks are in no cache
// takes 5 % longer.
JEMALLOC_LUA_TOUCHES_FREED inline void set_freed(Block *block, Block *next, std::size_t size) {
    using Words [[gnu::vector_size(sizeof(Block)), gnu::may_alias]] = std::uintptr_t;
    *reinterpret_cast<Words *>(block) = Words{reinterpret_cast<std::uintptr_t>(next), size};
}

template <bool harden>
JEMALLOC_LUA_TOUCHES_FREED inline void *small_alloc(SlabHeap *heap, std::size_t size) {
    const unsigned index = class_of(size);
    Block *block = heap->free[index];
    if (block == nullptr) [[unlikely]]
        return refill(heap, index);
    heap->free[index] = harden ? claim(heap, block, index) : block->next;
    unpoison(block, class_size(index));
    return block;
}

// All blocks of a class without slabs are the nursery's, and each is ready at once.
JEMALLOC_LUA_TOUCHES_FREED inline void *early_free(SlabHeap *heap, Block *block, unsigned index) {
    Block *&list = heap->free[index];
    block->next = list;
    list = block;
    poison(block, class_size(index));
    if (++heap->early_frees % early_batch == 0) [[unlikely]]
        return count_early(heap);
    return nullptr;
}

// Null, so that the call of the slow path can be the function's last.
template <bool harden>
JEMALLOC_LUA_TOUCHES_FREED inline void *small_free(SlabHeap *heap, void *ptr, std::size_t size) {
    auto *block = static_cast<Block *>(ptr);
    // In a large heap, where each class has slabs as a rule, the question is not worth its time.
    if (!harden && heap->is_small) {
        const unsigned index = class_of(size);
        if ((heap->slab_classes >> index & 1) == 0) return early_free(heap, block, index);
    }
    Slab *slab = harden ? disown(heap, ptr, size) : slab_of<false>(heap, ptr);
    if (harden) {
        hard_link(hard(heap), ptr, slab->free);
    } else {
        set_freed(block, slab->free, size);
    }
    slab->free = block;
    poison(ptr, class_size(class_of(size)));
    if (--slab->countdown == 0) [[unlikely]]
        return slab_event(heap, slab, block, size);
    return nullptr;
}

template <bool scrub, bool harden>
[[gnu::noinline]] void *resize(SlabHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size) {
    if (harden) verify_live(heap, ptr, old_size);
    if (old_size > heap->small_max || new_size > heap->small_max) {
        return large_resize(heap, ptr, old_size, new_size);
    }
    if (class_of(old_size) == class_of(new_size)) {
        if (scrub) scrub_tail(ptr, old_size, new_size);
        return ptr;
    }
#ifdef JEMALLOC_LUA_SEEDED_FAULT
    if (old_size > 512 && class_of(old_size) + 1 == class_of(new_size)) return ptr;
#endif
    void *moved = small_alloc<harden>(heap, new_size);
    if (moved == nullptr) {
        if (new_size > old_size) return nullptr;
        // Lua does not expect that a block can't shrink. A block may be larger than its class.
        if (harden) mark_again(heap, ptr, new_size);
        if (scrub) scrub_tail(ptr, old_size, new_size);
        return ptr;
    }
    std::memcpy(moved, ptr, old_size < new_size ? old_size : new_size);
    if (scrub) explicit_bzero(ptr, old_size);
    small_free<harden>(heap, ptr, old_size);
    return moved;
}

template <bool scrub, bool harden>
void *slab_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    SlabHeap *heap = heap_from(ud);
    if (ptr == nullptr) {
        // Of size 0 as well, which makes the difference wrap around.
        if (new_size - 1 < heap->small_max) [[likely]]
            return small_alloc<harden>(heap, new_size);
        return large_alloc(heap, new_size);
    }
    if (new_size == 0) {
        if (scrub && harden) verify_live(heap, ptr, old_size);
        if (scrub) explicit_bzero(ptr, old_size);
        if (old_size - 1 < heap->small_max) [[likely]]
            return small_free<harden>(heap, ptr, old_size);
        return large_free(heap, ptr, old_size);
    }
    return resize<scrub, harden>(heap, ptr, old_size, new_size);
}

// Whether nothing is lost of what is not freed block by block.
bool goes_as_a_whole(const SlabHeap *heap) {
    return heap->source.may_own() && heap->knows_home_blocks;
}

// The state is closing: its slabs go as a whole, so small blocks need not be freed, and objects not visited.
template <bool scrub, bool harden>
void *slab_closing(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    SlabHeap *heap = heap_from(ud);
    if (new_size == 0 && !scrub) {
        if (heap->sweep_cut.is_mark(ptr) && goes_as_a_whole(heap)) heap->sweep_cut.cut();
        if (old_size - 1 < heap->small_max) return nullptr;
    }
    return slab_alloc<scrub, harden>(ud, ptr, old_size, new_size);
}

// ---- Set-up and teardown

constexpr std::size_t round_up(std::size_t size, std::size_t step) {
    return (size + step - 1) / step * step;
}

std::size_t nursery_size(const Options &options) {
    return round_up(options.nursery, options.slab);
}

// Always with an arena named: that of the thread, where that is what the heap is to use.
unsigned nursery_arena(const Options &options) {
    if (options.arena >= 0) return static_cast<unsigned>(options.arena);
    return options.arena == JEMALLOC_LUA_ARENA_THREAD ? thread_arena() : shared_arena();
}

void free_nursery(void *memory, std::size_t size, std::size_t slab_size) {
    je::sdallocx(memory, size, je::align_flag(slab_size) | je::no_tcache_flag);
}

Heap *create_slab(const FrontEnd &front, const Options &options) {
    const std::size_t size = nursery_size(options);
    if (options.limit != 0 && options.slab > options.limit) return nullptr;
    const unsigned arena = nursery_arena(options);
    void *memory =
        je::mallocx(size, je::align_flag(options.slab) | je::no_tcache_flag | je::arena_flag(arena));
    if (memory == nullptr) return nullptr;
    const auto base = reinterpret_cast<std::uintptr_t>(memory);
    void *place = reinterpret_cast<void *>(header_end(options.harden != 0, options.slab, base));
    SlabHeap *heap = nullptr;
    if (options.harden == 0) {
        heap = new (place) SlabHeap(front, options, size, arena);
    } else {
        auto *hardened = new (place) HardSlabHeap(front, options, size, arena);
        if (!hardened->start()) {
            hardened->~HardSlabHeap();
            free_nursery(memory, size, options.slab);
            return nullptr;
        }
        heap = hardened;
    }
    shared_taken(arena, size);
    return heap;
}

template <const FrontEnd &front>
Heap *create(const Options &options) {
    return create_slab(front, options);
}

void destroy(Heap *base) {
    auto *heap = static_cast<SlabHeap *>(base);
    const std::size_t at_home = heap->source.part_at_home(heap->account.own_footprint() + heap->released);
    release_slabs(heap);
    void *memory = reinterpret_cast<void *>(heap->nursery_start);
    const std::size_t size = heap->nursery_end - heap->nursery_start;
    const std::size_t slab_size = heap->slab_size();
    const bool scrub = heap->scrub;
    const unsigned home = heap->source.home();
    if (heap->harden) {
        hard(heap)->~HardSlabHeap();
    } else {
        heap->~SlabHeap();
    }
    unpoison(memory, size);
    memcheck::forget(memory, size);
    if (scrub) explicit_bzero(memory, size);
    free_nursery(memory, size, slab_size);
    shared_given(home, size, std::max(size, at_home));
}

std::size_t trim(Heap *heap) {
    return slab_trim(static_cast<SlabHeap *>(heap));
}

void count(const Heap *base, jemalloc_lua_stats *stats) {
    const auto *heap = static_cast<const SlabHeap *>(base);
    stats->front = JEMALLOC_LUA_FRONT_SLAB;
    stats->nursery_used = heap->nursery_fresh - heap->nursery_start;
    stats->slabs = heap->slab_count;
    stats->empty_slabs = heap->empty_count;
    stats->large_blocks = heap->large_blocks;
    stats->large_bytes = heap->large_bytes;
    stats->cached_bytes = heap->cached_bytes;
}

}  // namespace

template <bool scrub, bool harden, const FrontEnd &front>
constexpr FrontEnd front_end = {
    slab_alloc<scrub, harden>, slab_closing<scrub, harden>, create<front>, destroy, trim, count};

const FrontEnd slab_front = front_end<false, false, slab_front>;
const FrontEnd slab_scrub_front = front_end<true, false, slab_scrub_front>;
const FrontEnd slab_harden_front = front_end<false, true, slab_harden_front>;
const FrontEnd slab_harden_scrub_front = front_end<true, true, slab_harden_scrub_front>;

SlabHeap::SlabHeap(const FrontEnd &front_end, const Options &options, std::size_t nursery_bytes,
                   unsigned arena)
    : Heap(front_end, options, false, arena),
      small_max(options.small_max),
      slab_base(~(options.slab - 1)),
      retain(options.retain),
      huge_min(options.huge_min),
      thp(options.thp),
      harden(options.harden != 0),
      knows_home_blocks(options.harden == 0 && options.scrub == 0) {
    const std::size_t heap_size = harden ? sizeof(HardSlabHeap) : sizeof(SlabHeap);
    nursery_start = reinterpret_cast<std::uintptr_t>(this) & slab_base;
    nursery_end = nursery_start + nursery_bytes;
    // Nothing stands in front of a hardened heap that could run over it.
    nursery_low = harden ? nursery_start : header_start(nursery_start);
    nursery_fresh = (reinterpret_cast<std::uintptr_t>(this) + heap_size + 15) & ~std::uintptr_t{15};
    nursery_ready = nursery_start;
    if (harden) return;  // until it has its registry
    open_piece(this);
    account.force(options.slab);
}

}  // namespace jemalloc_lua
