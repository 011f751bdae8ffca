// The checked front end: direct, and every call verified.
//
// A table outside the blocks knows each live block and its size. Each block ends with a canary; a freed
// block is filled with a pattern and kept in quarantine for a while, and the pattern is looked at before
// jemalloc gets the block back. What does not fit ends the process with a report that names the block.

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unordered_map>

#include "heap/heap.h"

namespace jemalloc_lua {
namespace {

// The heap's own records: from jemalloc too, so that the host's malloc is left alone, and part of the
// footprint.
template <class T>
struct RecordAllocator {
    using value_type = T;

    explicit RecordAllocator(Heap *owner) : heap(owner) {}
    template <class U>
    RecordAllocator(const RecordAllocator<U> &other) : heap(other.heap) {}

    T *allocate(std::size_t n) {
        const std::size_t bytes = je::size_class(n * sizeof(T));
        if (!take_region(heap, bytes)) throw std::bad_alloc();
        if (void *memory = je::mallocx(bytes, heap->source.flags())) return static_cast<T *>(memory);
        heap->account.take_back(bytes);
        throw std::bad_alloc();
    }
    void deallocate(T *memory, std::size_t n) {
        const std::size_t bytes = je::size_class(n * sizeof(T));
        je::sdallocx(memory, bytes, heap->source.free_flags());
        heap->account.give(bytes);
        heap->released += bytes;
    }

    template <class U>
    bool operator==(const RecordAllocator<U> &other) const {
        return heap == other.heap;
    }

    Heap *heap;
};
using Record = std::pair<void *const, std::size_t>;

constexpr std::size_t canary_size = 16;
constexpr unsigned char canary_byte = 0xC5;
constexpr unsigned char fresh_byte = 0xAF;  // what an uninitialised block holds
constexpr unsigned char freed_byte = 0x5A;
constexpr std::size_t quarantine_blocks = 1024;
constexpr std::size_t quarantine_bytes = std::size_t{1} << 20;

struct Freed {
    unsigned char *ptr;
    std::size_t size;
};

struct CheckedHeap : Heap {
    CheckedHeap(const Options &options, unsigned home)
        : Heap(checked_front, options, true, home), live(RecordAllocator<Record>(this)) {}

    std::unordered_map<void *, std::size_t, std::hash<void *>, std::equal_to<>, RecordAllocator<Record>> live;

    // Freed blocks, a ring from the oldest to the newest.
    std::array<Freed, quarantine_blocks> quarantine;
    std::size_t oldest = 0;
    std::size_t freed_count = 0;
    std::size_t freed_bytes = 0;
};

// Bytes that jemalloc holds for a block. Asked of it, as a block that could not shrink holds more than its
// size tells.
std::size_t held(const void *ptr) {
    return je::sallocx(ptr, 0);
}

[[noreturn, gnu::format(printf, 4, 5)]] void report(const CheckedHeap *heap, const void *ptr,
                                                    std::size_t size, const char *format, ...) {
    char what[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    std::fprintf(stderr, "jemalloc_lua: front:checked: block %p of %zu bytes (heap %p): %s\n", ptr, size,
                 static_cast<const void *>(heap), what);
    std::abort();
}

// The offset of the first byte that is not `expected`, or size.
std::size_t first_other(const unsigned char *bytes, std::size_t size, unsigned char expected) {
    std::size_t at = 0;
    while (at < size && bytes[at] == expected) ++at;
    return at;
}

// The size of a block that is freed: after a refusal LuaJIT may name one that is too small.
std::size_t freed_size(const CheckedHeap *heap, void *ptr, std::size_t size) {
    if (!heap->account.any_refused()) return size;
    const auto found = heap->live.find(ptr);
    const bool is_short =
        found != heap->live.end() && found->second > size && found->second - size <= max_upvalues_size;
    return is_short ? found->second : size;
}

// Verifies a block that Lua hands in.
void check_live(CheckedHeap *heap, void *ptr, std::size_t size) {
    const auto found = heap->live.find(ptr);
    if (found == heap->live.end()) {
        for (std::size_t i = 0; i < heap->freed_count; ++i) {
            const Freed &freed = heap->quarantine[(heap->oldest + i) % quarantine_blocks];
            if (freed.ptr == ptr) report(heap, ptr, freed.size, "double free: it is free already");
        }
        report(heap, ptr, size, "not a block of this heap");
    }
    if (found->second != size) {
        report(heap, ptr, found->second, "wrong size: the caller says %zu bytes", size);
    }
    const std::size_t usable = je::sallocx(ptr, 0);
    if (usable < size + canary_size) {
        report(heap, ptr, size, "jemalloc holds only %zu bytes for it", usable);
    }
    if (reinterpret_cast<std::uintptr_t>(ptr) % 16 != 0) report(heap, ptr, size, "not aligned to 16 bytes");
    const auto *end = static_cast<const unsigned char *>(ptr) + size;
    const std::size_t good = first_other(end, canary_size, canary_byte);
    if (good != canary_size) {
        report(heap, ptr, size, "written past its end: byte %zu is 0x%02x", size + good, end[good]);
    }
}

// Gives the oldest block of the quarantine back to jemalloc.
void release_oldest(CheckedHeap *heap) {
    const Freed freed = heap->quarantine[heap->oldest];
    heap->oldest = (heap->oldest + 1) % quarantine_blocks;
    --heap->freed_count;
    const std::size_t good = first_other(freed.ptr, freed.size, freed_byte);
    if (good != freed.size) {
        report(heap, freed.ptr, freed.size, "used after it was freed: byte %zu was overwritten with 0x%02x",
               good, freed.ptr[good]);
    }
    const std::size_t bytes = held(freed.ptr);
    heap->freed_bytes -= bytes;
    je::dallocx(freed.ptr, heap->source.free_flags());
    heap->account.give(bytes);
    heap->released += bytes;
}

void empty_quarantine(CheckedHeap *heap) {
    while (heap->freed_count > 0) release_oldest(heap);
}

bool take(CheckedHeap *heap, std::size_t bytes) {
    // What the quarantine holds is no one's use: it must not make a request fail.
    const std::size_t limit = heap->account.limit();
    if (bytes > limit || heap->account.footprint() > limit - bytes) empty_quarantine(heap);
    return take_region(heap, bytes);
}

void *obtain(CheckedHeap *heap, std::size_t size, bool must) {
    if (size > PTRDIFF_MAX - canary_size) {
        heap->account.count_refusal();
        return nullptr;
    }
    const std::size_t bytes = je::size_class(size + canary_size);
    if (must) {
        heap->account.force(bytes);
    } else if (!take(heap, bytes)) {
        return nullptr;
    }
    void *ptr = je::mallocx(size + canary_size, heap->source.flags());
    if (ptr != nullptr) {
        try {
            heap->live.emplace(ptr, size);
        } catch (const std::bad_alloc &) {
            je::sdallocx(ptr, bytes, heap->source.free_flags());
            ptr = nullptr;
        }
    }
    if (ptr == nullptr) {
        heap->account.take_back(bytes);
        heap->account.count_refusal();
        return nullptr;
    }
    std::memset(ptr, fresh_byte, size);
    std::memset(static_cast<unsigned char *>(ptr) + size, canary_byte, canary_size);
    heap->note_first(ptr, size);
    ++heap->requests;
    heap->source.grow(heap->account.own_footprint());
    return ptr;
}

void release(CheckedHeap *heap, void *ptr, std::size_t size) {
    size = freed_size(heap, ptr, size);
    check_live(heap, ptr, size);
    heap->live.erase(ptr);
    std::memset(ptr, freed_byte, size);
    if (heap->ends_with(ptr)) {
        if (!heap->live.empty()) {
            const auto &[block, bytes] = *heap->live.begin();
            report(heap, block, bytes, "still live when its state ended");
        }
        je::dallocx(ptr, heap->source.free_flags());
        return end_with_state(heap);
    }
    if (heap->freed_count == quarantine_blocks) release_oldest(heap);
    heap->quarantine[(heap->oldest + heap->freed_count++) % quarantine_blocks] = {
        static_cast<unsigned char *>(ptr), size};
    heap->freed_bytes += held(ptr);
    while (heap->freed_bytes > quarantine_bytes) release_oldest(heap);
}

// Always to a new block, so that a pointer kept to the old one is found out.
void *resize(CheckedHeap *heap, void *ptr, std::size_t old_size, std::size_t new_size) {
    check_live(heap, ptr, old_size);
    void *moved = obtain(heap, new_size, new_size <= old_size);
    if (moved == nullptr) {
        if (new_size > old_size) return nullptr;
        // Lua does not expect that a block can't shrink: it keeps its place, with the canary moved up.
        heap->live.find(ptr)->second = new_size;
        std::memset(static_cast<unsigned char *>(ptr) + new_size, canary_byte,
                    old_size - new_size + canary_size);
        return ptr;
    }
    std::memcpy(moved, ptr, old_size < new_size ? old_size : new_size);
    release(heap, ptr, old_size);
    return moved;
}

void *checked_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<CheckedHeap *>(static_cast<Heap *>(ud));
    if (ptr == nullptr) return new_size == 0 ? nullptr : obtain(heap, new_size, false);
    if (new_size != 0) return resize(heap, ptr, old_size, new_size);
    release(heap, ptr, old_size);
    return nullptr;
}

Heap *create(const Options &options) {
    return create_header<CheckedHeap>(options);
}

void destroy(Heap *heap) {
    auto *checked = static_cast<CheckedHeap *>(heap);
    empty_quarantine(checked);
    for (const auto &[ptr, size] : checked->live) {
        if (checked->scrub) explicit_bzero(ptr, size);
        je::dallocx(ptr, checked->source.free_flags());
    }
    destroy_header(checked);
}

std::size_t trim(Heap *heap) {
    auto *checked = static_cast<CheckedHeap *>(heap);
    empty_quarantine(checked);
    try {
        checked->live.rehash(0);
    } catch (const std::bad_alloc &) {  // then it stays as large as it is
    }
    const std::size_t bytes = std::min(heap->source.trim(), heap->account.peak() - heap->account.footprint());
    heap->purged += bytes;
    heap->account.settle(heap->source.pages(), 0);
    return bytes;
}

void count(const Heap *heap, jemalloc_lua_stats *stats) {
    stats->front = JEMALLOC_LUA_FRONT_CHECKED;
    stats->footprint = heap->account.footprint_now(heap->source.pages());
    stats->cached_bytes = static_cast<const CheckedHeap *>(heap)->freed_bytes;
}

}  // namespace

const FrontEnd checked_front = {checked_alloc, nullptr, create, destroy, trim, count};

}  // namespace jemalloc_lua
