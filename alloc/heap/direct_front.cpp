// The direct front end: every block is a jemalloc region of its own.
//
// There is nothing between Lua and jemalloc but the count of bytes. jemalloc's size classes are computed
// inline, so that a block that stays within its class is not even passed on, and every free is a sized one.

#include <algorithm>
#include <cstring>

#include "heap/heap.h"

namespace jemalloc_lua {
namespace {

struct DirectHeap : Heap {
    DirectHeap(const Options &options, unsigned home) : Heap(direct_front, options, true, home) {}

    // Bytes that jemalloc holds for a block of `size`. After a refusal Lua's word for it is not enough.
    std::size_t held(const void *ptr, std::size_t size) const {
        return account.any_refused() ? je::sallocx(ptr, 0) : je::size_class(size);
    }
};

// jemalloc's regions of at least this size are extents, which can grow and shrink in place.
constexpr std::size_t min_extent = std::size_t{16} << 10;

// Requests are rounded up to 16 bytes, so that blocks of 8 are aligned as all others.
constexpr std::size_t at_least_16(std::size_t size) {
    return size < 16 ? 16 : size;
}

[[gnu::noinline]] void *refuse(DirectHeap *heap, std::size_t taken) {
    heap->account.take_back(taken);
    heap->account.count_refusal();
    return nullptr;
}

void *obtain(DirectHeap *heap, std::size_t size) {
    if (size > PTRDIFF_MAX) [[unlikely]]
        return refuse(heap, 0);
    const std::size_t bytes = je::size_class(size);
    if (!take_region(heap, bytes)) [[unlikely]]
        return nullptr;
    void *ptr = je::mallocx(at_least_16(size), heap->source.flags());
    if (ptr == nullptr) [[unlikely]]
        return refuse(heap, bytes);
    heap->note_first(ptr, size);
    ++heap->requests;
    heap->source.grow(heap->account.own_footprint());
    return ptr;
}

void release(DirectHeap *heap, void *ptr, std::size_t size) {
    if (heap->scrub) [[unlikely]]
        explicit_bzero(ptr, size);
    const std::size_t bytes = heap->held(ptr, size);
    je::sdallocx(ptr, bytes, heap->source.free_flags());
    if (heap->ends_with(ptr)) [[unlikely]]
        return end_with_state(heap);
    heap->account.give(bytes);
    if (bytes >= min_extent) heap->released += bytes;
}

// Another size class: in place where jemalloc can, else a new block. While contents move both blocks are
// held, and counted.
[[gnu::noinline]] void *move(DirectHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size,
                             std::size_t old_bytes, std::size_t new_bytes) {
    const bool grows = new_bytes > old_bytes;
    const int flags = heap->source.flags();
    const std::size_t difference = grows ? new_bytes - old_bytes : old_bytes - new_bytes;
    if (!grows && heap->scrub) explicit_bzero(static_cast<char *>(ptr) + new_size, old_size - new_size);

    if (old_bytes >= min_extent && new_bytes >= min_extent) {
        if (grows && !take_region(heap, difference)) return nullptr;
        const bool in_place = je::xallocx(ptr, new_size, 0, flags) == new_bytes;
        if (in_place && !grows) heap->account.give(difference);
        if (in_place) return ptr;
        if (grows) heap->account.take_back(difference);
    }

    if (!grows) {
        heap->account.force(new_bytes);
    } else if (!take_region(heap, new_bytes)) {
        return nullptr;
    }
    void *moved = je::mallocx(at_least_16(new_size), flags);
    if (moved == nullptr) {
        refuse(heap, new_bytes);
        return grows ? nullptr : ptr;  // Lua does not expect that a block can't shrink
    }
    ++heap->requests;
    std::memcpy(moved, ptr, old_size < new_size ? old_size : new_size);
    release(heap, ptr, old_size);
    heap->source.grow(heap->account.own_footprint());
    return moved;
}

void *resize(DirectHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size) {
    if (new_size > PTRDIFF_MAX) [[unlikely]]
        return refuse(heap, 0);
    const std::size_t old_bytes = heap->held(ptr, old_size);
    const std::size_t new_bytes = je::size_class(new_size);
    if (old_bytes != new_bytes) return move(heap, ptr, old_size, new_size, old_bytes, new_bytes);
    if (heap->scrub && new_size < old_size) [[unlikely]] {
        explicit_bzero(static_cast<char *>(ptr) + new_size, old_size - new_size);
    }
    return ptr;
}

void *direct_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<DirectHeap *>(static_cast<Heap *>(ud));
    if (ptr == nullptr) return new_size == 0 ? nullptr : obtain(heap, new_size);
    if (new_size != 0) return resize(heap, ptr, old_size, new_size);
    release(heap, ptr, old_size);
    return nullptr;
}

// The state is closing and the heap's arena will be reset: blocks need not be freed one by one.
void *direct_closing(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<DirectHeap *>(static_cast<Heap *>(ud));
    const bool skip = heap->source.owned_from_start() && !heap->scrub;
    if (!skip || ptr == nullptr || new_size != 0) return direct_alloc(ud, ptr, old_size, new_size);
    if (heap->sweep_cut.is_mark(ptr)) heap->sweep_cut.cut();
    if (heap->ends_with(ptr)) end_with_state(heap);
    return nullptr;
}

Heap *create(const Options &options) {
    return create_header<DirectHeap>(options);
}
void destroy(Heap *heap) {
    destroy_header(static_cast<DirectHeap *>(heap));
}
std::size_t trim(Heap *heap) {
    // An arena that is shared holds unused pages of others too.
    const std::size_t bytes = std::min(heap->source.trim(), heap->account.peak() - heap->account.footprint());
    heap->purged += bytes;
    heap->account.settle(heap->source.pages(), 0);
    return bytes;
}

void count(const Heap *heap, jemalloc_lua_stats *stats) {
    stats->front = JEMALLOC_LUA_FRONT_DIRECT;
    stats->footprint = heap->account.footprint_now(heap->source.pages());
}

}  // namespace

const FrontEnd direct_front = {direct_alloc, direct_closing, create, destroy, trim, count};

}  // namespace jemalloc_lua
