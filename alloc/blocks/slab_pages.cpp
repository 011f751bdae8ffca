// The slabs of a heap: where they come from, which is handed out next, and when they go back.

#include <algorithm>
#include <cassert>
#include <cstring>

#include "check/memcheck.h"
#include "blocks/slab_harden.h"

namespace jemalloc_lua {
namespace {

// A slab's fresh memory is made into blocks by about a page at a time, so that no page is touched before it
// is needed.
constexpr std::size_t carve_bytes = 4096;

constexpr std::size_t cache_line = 64;

// So much is kept, however little is live.
constexpr std::size_t min_retained = std::size_t{512} << 10;

// The arena is purged when this much more than `retain` allows lies unused in it.
constexpr std::size_t purge_step = std::size_t{4} << 20;

// Whether what is freed in the nursery stays there for now. Its blocks are handed out again at the price of
// sorting them; where it is a quarter of the heap or less, slabs serve faster. A heap that becomes small
// again, or comes near its limit, uses them.
bool spares_nursery(const SlabHeap *heap) {
    return !heap->harden && !heap->is_small && heap->account.has_room(heap->slab_size());
}

void set_slab_count(SlabHeap *heap, std::size_t count) {
    heap->slab_count = count;
    heap->is_small = count * heap->slab_size() <= 3 * (heap->nursery_end - heap->nursery_start);
    if (count == 0) heap->slab_classes = 0;
}

// ---- What holds for a slab; debug builds check it after every slow path

[[maybe_unused]] bool slab_is_valid(const SlabHeap *heap, const Slab *slab) {
    if (slab != slab_at(heap, base_of(heap, slab))) return false;
    if (slab->state == SlabState::nursery) {
        return slab->countdown == nursery_batch(heap) && (slab->free == nullptr || spares_nursery(heap));
    }
    const std::size_t size = class_size(slab->class_index);
    if (slab->carved * size > heap->slab_size() || slab->used() > slab->carved) return false;
    if (slab->fresh > heap->slab_size() || slab->floor > slab->fresh) return false;
    switch (slab->state) {
        case SlabState::current:
            return heap->current[slab->class_index] == slab && slab->spare == 0;
        case SlabState::full:
            return slab->countdown > 0 && slab->spare > 0;
        case SlabState::partial:
            return slab->countdown > 0 && slab->spare == 0 && slab->free != nullptr;
        case SlabState::empty:
            return slab->used() == 0;
        default:
            return false;
    }
}

int slab_flags(const SlabHeap *heap) {
    return heap->source.flags() | je::align_flag(heap->slab_size());
}

// ---- Blocks of a slab

// Makes the next blocks of the fresh memory, downward, and returns them as a list; null when there is no
// more. LuaJIT puts each new object in front of its list of all objects, so its sweep, from the newest to
// the oldest, then walks upward through memory.
JEMALLOC_LUA_TOUCHES_FREED Block *carve(SlabHeap *heap, Slab *slab) {
    const auto size = static_cast<std::uint32_t>(class_size(slab->class_index));
    if (slab->fresh - slab->floor < size && slab->floor != 0) {
        slab->fresh = static_cast<std::uint32_t>(header_start(base_of(heap, slab)) & ~heap->slab_base);
        slab->floor = 0;
    }
    const std::uint32_t room = (slab->fresh - slab->floor) / size;
    if (room == 0) return nullptr;
    const std::uint32_t count = std::clamp<std::uint32_t>(carve_bytes / size, 1, room);
    const std::uintptr_t base = base_of(heap, slab);
    std::uintptr_t at = base + slab->fresh - size;
    auto *first = reinterpret_cast<Block *>(at);
    Block *last = first;
    for (std::uint32_t i = 1; i < count; ++i) {
        at -= size;
        last->next = reinterpret_cast<Block *>(at);
        last = last->next;
    }
    last->next = nullptr;
    slab->fresh -= count * size;
    slab->carved += count;
    slab->countdown += count;
    heap->requests += count;
    if (heap->harden) seal_fresh(heap, first);
    poison(reinterpret_cast<void *>(at), count * size);
    return first;
}

// All blocks of the class's current slab that are ready: freed ones, or fresh ones.
Block *take_blocks(SlabHeap *heap, Slab *slab) {
    if (slab->free != nullptr) {
        Block *blocks = slab->free;
        heap->requests += slab->carved - slab->countdown;
        slab->free = nullptr;
        slab->countdown = slab->carved;
        return blocks;
    }
    return carve(heap, slab);
}

// ---- Slabs of a heap

// A slab whose header decides what comes next.
Slab *trusted(SlabHeap *heap, Slab *slab) {
    if (heap->harden) verify_guards(heap, slab);
    return slab;
}

Slab *new_slab(SlabHeap *heap) {
    const std::size_t size = heap->slab_size();
    if (heap->harden && !reserve_entry(heap)) return nullptr;
    if (!take(heap, size)) return nullptr;
    void *memory = je::mallocx(size, slab_flags(heap));
    if (memory == nullptr) {
        heap->account.take_back(size);
        if (!spares_nursery(heap)) heap->account.count_refusal();
        return nullptr;
    }
    set_slab_count(heap, heap->slab_count + 1);
    heap->reuse(size);
    Slab *slab = new (slab_at(heap, reinterpret_cast<std::uintptr_t>(memory))) Slab;
    slab->at_home = heap->source.may_leave();
    grow(heap);
    if (heap->harden) enter_slab(heap, slab);
    return slab;
}

void release_slab(SlabHeap *heap, Slab *slab) {
    const std::size_t size = heap->slab_size();
    void *memory = reinterpret_cast<void *>(base_of(heap, slab));
    const bool at_home = slab->at_home;
    if (heap->harden) forget_slab(heap, slab);
    unpoison(memory, size);
    memcheck::forget(memory, size);
    if (heap->scrub) explicit_bzero(memory, size);
    je::sdallocx(memory, size, je::align_flag(size) | je::no_tcache_flag);
    set_slab_count(heap, heap->slab_count - 1);
    heap->account.give(size);
    heap->give(size, at_home);
}

void release_empty(SlabHeap *heap) {
    Slab *slab = trusted(heap, heap->empty.first);
    heap->empty.remove(slab);
    --heap->empty_count;
    release_slab(heap, slab);
}

void make_empty(SlabHeap *heap, Slab *slab) {
    slab->state = SlabState::empty;
    heap->empty.push_back(slab);
    ++heap->empty_count;
    retain_some(heap);
}

void make_current(SlabHeap *heap, Slab *slab, unsigned class_index) {
    slab->state = SlabState::current;
    slab->class_index = static_cast<std::uint8_t>(class_index);
    heap->current[class_index] = slab;
    heap->slab_classes |= 1u << class_index;
}

// An empty or new slab, for blocks of another class.
void format(SlabHeap *heap, Slab *slab, unsigned class_index) {
    slab->free = nullptr;
    slab->countdown = 0;
    slab->spare = 0;
    slab->carved = 0;
    const std::uintptr_t base = base_of(heap, slab);
    slab->floor = static_cast<std::uint32_t>(header_end(heap, base) - base);
    slab->fresh = static_cast<std::uint32_t>(heap->slab_size());
    // Blocks of powers of two would compete for few lines of the CPU's caches as headers would, so what is
    // left over after the last one is left before the first, or some of it.
    const std::size_t lines = (slab->fresh - slab->floor) % class_size(class_index) / cache_line + 1;
    slab->fresh -= static_cast<std::uint32_t>(base / heap->slab_size() / 4 % lines * cache_line);
    if (heap->harden) clear_marks(heap, slab);
}

// The current slab has nothing left.
void retire_current(SlabHeap *heap, unsigned class_index) {
    Slab *slab = heap->current[class_index];
    if (slab == nullptr) return;
    slab->state = SlabState::full;
    slab->countdown = std::max<std::uint32_t>(slab->carved / 8, 1);
    slab->spare = slab->carved - slab->countdown;
    heap->full.push_back(slab);
    heap->current[class_index] = nullptr;
    assert(slab_is_valid(heap, slab));
}

// The next slab for a class: one with freed blocks, an empty one, a new one.
bool next_current(SlabHeap *heap, unsigned class_index) {
    Slab *slab = heap->partial[class_index].first;
    if (slab != nullptr) {
        heap->partial[class_index].remove(trusted(heap, slab));
    } else {
        slab = heap->empty.last;
        if (slab != nullptr) {
            heap->empty.remove(trusted(heap, slab));
            --heap->empty_count;
        } else {
            slab = new_slab(heap);
            if (slab == nullptr) return false;
        }
        format(heap, slab, class_index);
    }
    make_current(heap, slab, class_index);
    heap->account.show();
    return true;
}

// Blocks of the nursery come and go without the footprint, which else decides when statistics are shown.
void count_in_nursery(SlabHeap *heap, std::uint32_t count) {
    const std::uint64_t before = heap->requests;
    heap->requests += count;
    if ((before ^ heap->requests) >= 64) heap->account.show();
}

// What was freed in a piece of the nursery is ready, each block in the list of its class.
JEMALLOC_LUA_TOUCHES_FREED void sort_freed(SlabHeap *heap, Slab *piece) {
    Block *block = piece->free;
    count_in_nursery(heap, nursery_batch(heap) - piece->countdown);
    piece->free = nullptr;
    piece->countdown = nursery_batch(heap);
    while (block != nullptr) {
        Block *next = block->next;
        Block *&list = heap->free[class_of(block->size)];
        block->next = list;
        list = block;
        block = next;
    }
}

// The first block of the list of a class, or null.
JEMALLOC_LUA_TOUCHES_FREED Block *take_ready(SlabHeap *heap, unsigned class_index) {
    Block *block = heap->free[class_index];
    if (block != nullptr) {
        heap->free[class_index] = block->next;
        unpoison(block, class_size(class_index));
    }
    return block;
}

// A freed block of the nursery for this class, where there is one; other classes get theirs on the way.
JEMALLOC_LUA_TOUCHES_FREED Block *take_freed(SlabHeap *heap, unsigned class_index) {
    for (std::uintptr_t base = heap->nursery_start; base < heap->nursery_ready; base += heap->slab_size()) {
        Slab *piece = slab_at(heap, base);
        Block *block = piece->free;
        if (block == nullptr) continue;
        if (class_of(block->size) == class_index) {  // freed just now
            piece->free = block->next;
            ++piece->countdown;
            ++heap->requests;
            unpoison(block, class_size(class_index));
            return block;
        }
        sort_freed(heap, piece);
    }
    return take_ready(heap, class_index);
}

// For want of a slab: a block that was spared, or null.
Block *take_spared(SlabHeap *heap, unsigned class_index) {
    if (!spares_nursery(heap)) return nullptr;
    Block *block = take_freed(heap, class_index);
    if (block == nullptr) heap->account.count_refusal();
    return block;
}

template <class F>
void each_slab(SlabHeap *heap, F &&f) {
    const auto each = [&](SlabList &list) {
        while (Slab *slab = list.first) {
            list.remove(trusted(heap, slab));
            f(slab);
        }
    };
    for (unsigned i = 0; i < class_count; ++i) {
        if (heap->current[i] != nullptr) f(heap->current[i]);
        heap->current[i] = nullptr;
        each(heap->partial[i]);
    }
    each(heap->full);
    each(heap->empty);
    heap->empty_count = 0;
}

}  // namespace

// ---- The slow paths of malloc and free

[[gnu::noinline]] JEMALLOC_LUA_TOUCHES_FREED void *refill(SlabHeap *heap, unsigned class_index) {
    const std::size_t size = class_size(class_index);
    if (!heap->harden && !spares_nursery(heap)) {
        if (Block *block = take_freed(heap, class_index)) return block;
    }
    if (void *ptr = nursery_bump(heap, size)) {
        count_in_nursery(heap, 1);
        if (heap->harden) mark_new(heap, ptr, class_index);
        return ptr;
    }
    Block *blocks = nullptr;
    while (heap->current[class_index] == nullptr ||
           (blocks = take_blocks(heap, trusted(heap, heap->current[class_index]))) == nullptr) {
        retire_current(heap, class_index);
        if (!next_current(heap, class_index)) return take_spared(heap, class_index);
    }
    heap->free[class_index] = heap->harden ? claim(heap, blocks, class_index) : blocks->next;
    assert(slab_is_valid(heap, heap->current[class_index]));
    unpoison(blocks, size);
    return blocks;
}

[[gnu::noinline]] void *count_early(SlabHeap *heap) {
    count_in_nursery(heap, early_batch);
    return nullptr;
}

[[gnu::noinline]] JEMALLOC_LUA_TOUCHES_FREED void *slab_event(SlabHeap *heap, Slab *slab, Block *block,
                                                              std::size_t size) {
    switch (trusted(heap, slab)->state) {
        case SlabState::nursery:
            if (heap->harden) {
                const unsigned index = class_of(size);
                slab->free = nullptr;
                slab->countdown = nursery_batch(heap);
                link(heap, block, heap->free[index]);
                heap->free[index] = block;
                count_in_nursery(heap, 1);
            } else if (spares_nursery(heap)) {
                slab->countdown = nursery_batch(heap);
                count_in_nursery(heap, nursery_batch(heap));
            } else {
                sort_freed(heap, slab);
            }
            break;
        case SlabState::full:
            heap->full.remove(slab);
            slab->countdown = slab->spare;
            slab->spare = 0;
            slab->state = SlabState::partial;
            heap->partial[slab->class_index].push_back(slab);
            heap->account.show();
            break;
        case SlabState::partial:
            heap->partial[slab->class_index].remove(slab);
            make_empty(heap, slab);
            heap->account.show();
            return nullptr;  // the slab may be gone
        case SlabState::current:
        case SlabState::empty:
            break;
    }
    assert(slab_is_valid(heap, slab));
    return nullptr;
}

void open_piece(SlabHeap *heap) {
    Slab *piece = new (slab_at(heap, heap->nursery_ready)) Slab;
    piece->countdown = nursery_batch(heap);
    if (heap->harden) {
        enter_slab(heap, piece);
        clear_marks(heap, piece);
    }
    heap->nursery_ready += heap->slab_size();
}

// False where the limit leaves no room, or jemalloc none for the registry; there may be some in a slab.
bool open_next_piece(SlabHeap *heap) {
    if (heap->harden && !reserve_entry(heap)) return false;
    const std::size_t size = heap->slab_size();
    if (!heap->shrinking && heap->account.footprint() + size > heap->account.limit()) return false;
    if (!take(heap, size)) return false;
    open_piece(heap);
    return true;
}

void *nursery_bump(SlabHeap *heap, std::size_t size) {
    if (size <= heap->nursery_low - heap->nursery_start) {
        heap->nursery_low -= (size + 15) & ~std::size_t{15};
        return reinterpret_cast<void *>(heap->nursery_low);
    }
    std::uintptr_t at = heap->nursery_fresh;
    // The next header of a slab-sized piece is stepped over; what does not fit between two is not for here.
    std::uintptr_t piece = at & heap->slab_base;
    if (at > header_start(piece)) piece += heap->slab_size();
    if (piece < heap->nursery_end && at + size > header_start(piece)) {
        at = header_end(heap, piece);
        piece += heap->slab_size();
        if (piece < heap->nursery_end && at + size > header_start(piece)) return nullptr;
    }
    if (at + size > heap->nursery_end) return nullptr;
    if (at + size > heap->nursery_ready && !open_next_piece(heap)) return nullptr;
    heap->nursery_fresh = at + ((size + 15) & ~std::size_t{15});
    return reinterpret_cast<void *>(at);
}

// ---- Giving back

void count_purged(SlabHeap *heap) {
    heap->purged += heap->released;
    heap->released = 0;
    heap->largest_released = 0;
}

void purge(SlabHeap *heap) {
    heap->source.purge();
    count_purged(heap);
}

void grow(SlabHeap *heap) {
    if (heap->source.grow(heap->account.own_footprint())) count_purged(heap);
}

bool take(SlabHeap *heap, std::size_t bytes) {
    if (heap->shrinking) {
        heap->account.force(bytes);
        return true;
    }
    const std::size_t limit = heap->account.limit();
    if (bytes > limit || heap->account.footprint() > limit - bytes) reclaim(heap);
    if (heap->account.must_purge(bytes, heap->released)) purge(heap);
    return heap->account.take(bytes);
}

// Live memory falls while a sweep goes on, so at each slab that empties the excess is worked off whole.
// `retain` bounds what is kept idle: empty slabs, freed larger blocks, and pages that jemalloc holds of this
// heap's and that have not been used again.
void retain_some(SlabHeap *heap) {
    const std::size_t size = heap->slab_size();
    for (;;) {
        const std::size_t idle = heap->empty_count * size + heap->cached_bytes;
        const std::size_t live = heap->account.own_footprint() - idle;
        const std::size_t budget = std::max(live / 100 * heap->retain, min_retained);
        if (idle <= budget) {
            if (heap->released > budget - idle + purge_step && heap->source.may_own()) purge(heap);
            return;
        }
        if (heap->empty_count > 0) {
            release_empty(heap);
        } else {
            flush_cached(heap);
        }
    }
}

void reclaim(SlabHeap *heap) {
    flush_cached(heap);
    while (heap->empty_count > 0) release_empty(heap);
}

JEMALLOC_LUA_TOUCHES_FREED std::size_t slab_trim(SlabHeap *heap) {
    const std::size_t before = heap->account.footprint();
    for (unsigned i = 0; i < class_count; ++i) {
        // Ready blocks go back to their slabs; the nursery's stay.
        Block *blocks = heap->free[i];
        heap->free[i] = nullptr;
        while (blocks != nullptr) {
            Block *next = next_of(heap, blocks);
            Slab *slab =
                trusted(heap, slab_at(heap, reinterpret_cast<std::uintptr_t>(blocks) & heap->slab_base));
            if (slab->state == SlabState::nursery) {
                link(heap, blocks, heap->free[i]);
                heap->free[i] = blocks;
            } else {
                link(heap, blocks, slab->free);
                slab->free = blocks;
                if (--slab->countdown == 0) slab_event(heap, slab, blocks, class_size(i));
            }
            blocks = next;
        }
        Slab *slab = heap->current[i];
        if (slab != nullptr && slab->used() == 0) {
            heap->current[i] = nullptr;
            make_empty(heap, slab);
        }
    }
    reclaim(heap);
    const std::size_t freed = before - heap->account.footprint();
    const std::size_t bytes = std::max(freed, heap->released);
    purge(heap);
    return bytes;
}

void release_slabs(SlabHeap *heap) {
    if (heap->harden) verify_nursery(heap);
    flush_cached(heap);
    heap->huge_pages.withdraw_all();
    release_home_blocks(heap);
    each_slab(heap, [&](Slab *slab) { release_slab(heap, slab); });
}

}  // namespace jemalloc_lua
