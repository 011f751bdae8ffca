// The slow parts of hardening: keys, guards, marks, the registry, and the reports.

#include "blocks/slab_harden.h"

#include <sys/auxv.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace jemalloc_lua {
namespace {

constexpr std::size_t min_capacity = 128;

// ---- Reports

[[noreturn, gnu::cold, gnu::format(printf, 3, 4)]] void report(const SlabHeap *heap, const void *ptr,
                                                               const char *format, ...) {
    char what[160];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char line[320];
    // LuaJIT's lua_State is the first thing in the block that it asks for first.
    const int length =
        std::snprintf(line, sizeof line, "jemalloc_lua: harden: state %p, heap %p: block %p %s\n",
                      heap->state_block, static_cast<const void *>(heap), ptr, what);
    // Not through stdio, whose own state may be damaged.
    if (length > 0 && write(STDERR_FILENO, line, static_cast<std::size_t>(length)) < 0) std::abort();
    std::abort();
}

// The largest size of a class, as marks count classes.
std::size_t mark_size(const SlabHeap *heap, unsigned class_index) {
    if (class_index < class_count) return class_size(class_index);
    if (class_index == state_class) return heap->state_block_size;
    std::size_t size = 80;
    while (size < max_cached && cached_class(size) < class_index - class_count)
        size = je::size_class(size + 1);
    return size;
}

// ---- Marks

// Of a block of `size` bytes in the nursery.
std::uint8_t nursery_mark(const SlabHeap *heap, const void *ptr, std::size_t size) {
    if (size == 0 || size > max_cached) return mark_none;
    if (ptr == heap->state_block && size == heap->state_block_size) return live_mark(state_class);
    return live_mark(class_count + cached_class(size));
}

// The mark of an address in one of the heap's slabs; null for any other.
std::uint8_t *find_mark(SlabHeap *heap, const void *ptr) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const Registry::Entry *entry = hard(heap)->registry.find(at & heap->slab_base);
    if (entry == nullptr || entry->value != slab_entry) return nullptr;
    return mark_at(heap, slab_of<true>(heap, ptr), ptr);
}

void wipe_link(void *ptr) {
    *static_cast<HardBlock *>(ptr) = {};
}

// ---- Guards

void build_guard(const HardSlabHeap *heap, void *guard) {
    auto *words = static_cast<std::uintptr_t *>(guard);
    for (std::size_t i = 0; i < guard_size / sizeof *words; ++i) words[i] = guard_word(heap, &words[i]);
}

bool is_whole(const HardSlabHeap *heap, const void *guard) {
    const auto *words = static_cast<const std::uintptr_t *>(guard);
    std::uintptr_t difference = 0;
    for (std::size_t i = 0; i < guard_size / sizeof *words; ++i) {
        difference |= words[i] ^ guard_word(heap, &words[i]);
    }
    return difference == 0;
}

char *front_guard(Slab *slab) {
    return reinterpret_cast<char *>(slab) - guard_size;
}

char *rear_guard(const SlabHeap *heap, Slab *slab) {
    return reinterpret_cast<char *>(marks_of(slab)) + heap->slab_size() / 16;
}

// ---- The registry's memory: a guard, the entries, a guard

std::size_t table_bytes(std::size_t capacity) {
    return capacity * sizeof(Registry::Entry) + 2 * guard_size;
}

int table_flags(const SlabHeap *heap) {
    return je::align_flag(64) | je::no_tcache_flag | je::arena_flag(heap->source.home());
}

void free_table(Registry::Entry *entries, std::size_t capacity) {
    je::sdallocx(reinterpret_cast<char *>(entries) - guard_size, table_bytes(capacity),
                 je::align_flag(64) | je::no_tcache_flag);
}

// Another capacity; its bytes have been counted. False when out of memory.
bool resize_registry(HardSlabHeap *heap, std::size_t capacity) {
    void *memory = je::mallocx(table_bytes(capacity), table_flags(heap) | je::zero_flag);
    if (memory == nullptr) return false;
    auto *entries = reinterpret_cast<Registry::Entry *>(static_cast<char *>(memory) + guard_size);
    build_guard(heap, memory);
    build_guard(heap, entries + capacity);
    Registry::Entry *old = heap->registry.entries();
    const std::size_t old_capacity = heap->registry.capacity();
    heap->registry.move_to(entries, capacity);
    if (old != nullptr) free_table(old, old_capacity);
    return true;
}

void verify_registry(HardSlabHeap *heap) {
    Registry &registry = heap->registry;
    const char *start = reinterpret_cast<char *>(registry.entries()) - guard_size;
    if (!is_whole(heap, start) || !is_whole(heap, registry.entries() + registry.capacity())) {
        report(heap, start, "is the heap's list of its blocks, and was written to from outside");
    }
}

void forget(SlabHeap *base, std::uintptr_t key) {
    HardSlabHeap *heap = hard(base);
    Registry &registry = heap->registry;
    verify_registry(heap);
    registry.erase(key);
    // Falls with what it holds. Where there is no memory for a smaller one, it stays.
    const std::size_t capacity = registry.capacity();
    if (capacity == min_capacity || registry.count() > capacity / 16) return;
    const std::size_t given = table_bytes(capacity) - table_bytes(capacity / 4);
    if (capacity / 4 >= min_capacity && resize_registry(heap, capacity / 4)) heap->account.give(given);
}

void enter(SlabHeap *heap, const void *ptr, std::uintptr_t value) {
    hard(heap)->registry.insert(reinterpret_cast<std::uintptr_t>(ptr), value);
}

// Of a large block, which is known to be there.
Registry::Entry *entry_of(SlabHeap *heap, const void *ptr) {
    return hard(heap)->registry.find(reinterpret_cast<std::uintptr_t>(ptr));
}

}  // namespace

// ---- Reports

void report_wrong(SlabHeap *heap, const void *ptr, std::size_t size) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const Registry::Entry *entry = hard(heap)->registry.find(at);
    if (entry != nullptr && entry->value != slab_entry) {
        const std::uintptr_t bytes = entry->value & ~free_entry;
        if ((entry->value & free_entry) != 0) {
            report(heap, ptr, "of class %zu: double free or use after free: it is free already",
                   static_cast<std::size_t>(bytes));
        }
        report(heap, ptr, "of class %zu: wrong size: the caller says %zu bytes",
               static_cast<std::size_t>(bytes), size);
    }
    const std::uint8_t *mark = find_mark(heap, ptr);
    if (mark == nullptr || at % 16 != 0 || *mark == mark_none) {
        report(heap, ptr, "of %zu bytes, as the caller says: not a block of this heap", size);
    }
    Slab *slab = slab_of<true>(heap, ptr);
    verify_guards(heap, slab);
    if (*mark == mark_free) {
        std::size_t bytes = class_size(slab->class_index);
        if (slab->state == SlabState::nursery) {
            bytes = size > max_small ? je::size_class(size) : class_size(class_of(size));
        }
        report(heap, ptr, "of class %zu: double free or use after free: it is free already", bytes);
    }
    report(heap, ptr, "of class %zu: wrong size: the caller says %zu bytes",
           mark_size(heap, *mark - unsigned{mark_live}), size);
}

void report_written(SlabHeap *heap, const void *ptr, const char *what) {
    report(heap, ptr, "%s", what);
}

// ---- Set-up and teardown

HardSlabHeap::HardSlabHeap(const FrontEnd &front_end, const Options &options, std::size_t nursery_bytes,
                           unsigned arena)
    : SlabHeap(front_end, options, nursery_bytes, arena) {
    std::uintptr_t keys[3];
    if (getrandom(keys, sizeof keys, GRND_NONBLOCK) != sizeof keys) {
        // Early in the life of a machine. The kernel gives each process 16 random bytes.
        std::memcpy(keys, reinterpret_cast<const void *>(getauxval(AT_RANDOM)), 2 * sizeof *keys);
        keys[2] = (keys[0] + reinterpret_cast<std::uintptr_t>(this)) * (keys[1] | 1);
    }
    link_key = keys[0];
    seal_key = keys[1] | 1;
    guard_key = keys[2];
}

bool HardSlabHeap::start() {
    if (!resize_registry(this, min_capacity)) return false;
    account.force(table_bytes(min_capacity));
    open_piece(this);
    account.force(slab_size());
    return true;
}

HardSlabHeap::~HardSlabHeap() {
    if (registry.entries() != nullptr) free_table(registry.entries(), registry.capacity());
}

// ---- Marks

void verify_live(SlabHeap *heap, const void *ptr, std::size_t size) {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    if (size > heap->small_max && !heap->in_nursery(ptr)) {
        const Registry::Entry *entry = entry_of(heap, ptr);
        if (entry == nullptr || size > PTRDIFF_MAX || entry->value != je::size_class(size)) {
            report_wrong(heap, ptr, size);
        }
        return;
    }
    const std::uint8_t *mark = find_mark(heap, ptr);
    const std::uint8_t expected =
        size - 1 < heap->small_max ? live_mark(class_of(size)) : nursery_mark(heap, ptr, size);
    if (mark != nullptr && at % 16 == 0 && is_short_closure(heap, *mark, size)) return;
    if (mark == nullptr || at % 16 != 0 || expected == mark_none || *mark != expected) {
        report_wrong(heap, ptr, size);
    }
}

void mark_again(SlabHeap *heap, const void *ptr, std::size_t size) {
    *find_mark(heap, ptr) = live_mark(class_of(size));
}

void mark_new(SlabHeap *heap, const void *ptr, unsigned class_index) {
    *find_mark(heap, ptr) = live_mark(class_index);
}

void clear_marks(SlabHeap *heap, Slab *slab) {
    std::memset(marks_of(slab), mark_none, heap->slab_size() / 16);
}

JEMALLOC_LUA_TOUCHES_FREED void seal_fresh(SlabHeap *base, Block *blocks) {
    HardSlabHeap *heap = hard(base);
    for (Block *block = blocks; block != nullptr;) {
        Block *next = block->next;
        hard_link(heap, block, next);
        *mark_at(heap, slab_of<true>(heap, block), block) = mark_free;
        block = next;
    }
}

// ---- Guards

void verify_guards(SlabHeap *heap, Slab *slab) {
    if (!is_whole(hard(heap), front_guard(slab))) {
        report(heap, slab, "is the header of a slab, and something ran into it from the blocks before");
    }
    if (!is_whole(hard(heap), rear_guard(heap, slab))) {
        report(heap, slab, "is the header of a slab, and something ran into it from the blocks after");
    }
}

void verify_nursery(SlabHeap *heap) {
    for (std::uintptr_t base = heap->nursery_start; base < heap->nursery_ready; base += heap->slab_size()) {
        verify_guards(heap, slab_at<true>(base));
    }
}

// ---- The registry

bool reserve_entry(SlabHeap *base) {
    HardSlabHeap *heap = hard(base);
    verify_registry(heap);
    const std::size_t capacity = heap->registry.capacity();
    if (heap->registry.count() < capacity / 2) return true;
    const std::size_t wanted = table_bytes(2 * capacity);
    if (!take(heap, wanted)) return false;
    if (heap->registry.capacity() < capacity) {
        // So much was given up for the bytes that the registry has become smaller.
        heap->account.take_back(wanted);
        return true;
    }
    if (!resize_registry(heap, 2 * capacity)) {
        heap->account.take_back(wanted);
        heap->account.count_refusal();
        return false;
    }
    heap->account.give(table_bytes(capacity));
    return true;
}

void enter_slab(SlabHeap *heap, Slab *slab) {
    build_guard(hard(heap), front_guard(slab));
    build_guard(hard(heap), rear_guard(heap, slab));
    enter(heap, reinterpret_cast<void *>(base_of(heap, slab)), slab_entry);
}

void forget_slab(SlabHeap *heap, Slab *slab) {
    forget(heap, base_of(heap, slab));
}

void enter_large(SlabHeap *heap, const void *ptr, std::size_t bytes) {
    enter(heap, ptr, bytes);
}

void resize_large(SlabHeap *heap, const void *ptr, std::size_t bytes) {
    entry_of(heap, ptr)->value = bytes;
}

void forget_large(SlabHeap *heap, const void *ptr) {
    forget(heap, reinterpret_cast<std::uintptr_t>(ptr));
}

void keep_large(SlabHeap *heap, const void *ptr) {
    if (heap->in_nursery(ptr)) {
        *find_mark(heap, ptr) = mark_free;
    } else {
        entry_of(heap, ptr)->value |= free_entry;
    }
}

JEMALLOC_LUA_TOUCHES_FREED void reuse_large(SlabHeap *heap, void *ptr, std::size_t size) {
    if (heap->in_nursery(ptr)) {
        std::uint8_t *mark = find_mark(heap, ptr);
        if (*mark != mark_free) report_written(heap, ptr, "ready to be handed out although it is not free");
        *mark = live_mark(class_count + cached_class(size));
    } else {
        Registry::Entry *entry = entry_of(heap, ptr);
        if (entry == nullptr || entry->value != (je::size_class(size) | free_entry)) {
            report_written(heap, ptr, "ready to be handed out although it is not free");
        }
        entry->value -= free_entry;
    }
    wipe_link(ptr);
}

}  // namespace jemalloc_lua
