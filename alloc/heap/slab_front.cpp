// The slab front's functions: slab_heap.h on plain and on hardened blocks.
//
// slab_alloc() is what every request passes through. Its fast paths are in blocks/small.h; everything else is
// a tail call of a slow path. There are no locks and no thread-local storage: a heap belongs to its state.
// harden:true is the same code on blocks/hardened.h.

#include <cstring>
#include <new>

#include "blocks/hardened.h"
#include "blocks/plain.h"
#include "heap/slab_heap.h"
#include "system/arenas.h"

namespace jemalloc_lua {
namespace {

template <class Links>
SlabHeap<Links> &heap_from(void *ud) {
    return static_cast<SlabHeap<Links> &>(*static_cast<Heap *>(ud));
}

template <class Links>
void *slab_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    return heap_from<Links>(ud).request(ptr, old_size, new_size);
}

// ---- Set-up and teardown

// Always with an arena named: that of the thread, where that is what the heap is to use.
unsigned nursery_arena(const Options &options) {
    if (options.arena >= 0) return static_cast<unsigned>(options.arena);
    return options.arena == JEMALLOC_LUA_ARENA_THREAD ? thread_arena() : shared_arena();
}

template <class Links>
void destroy(Heap &base) {
    auto &heap = heap_from<Links>(&base);
    const auto remains = heap.finish();
    heap.~SlabHeap();
    if (remains.scrub) explicit_bzero(remains.memory, remains.size);
    give_extent(remains.memory, remains.size, remains.slab_size);
    shared_given(remains.arena, remains.size, remains.given);
}

template <class Links, const Front &front>
Heap *create(const Options &options) {
    const std::size_t size = (options.nursery + options.slab - 1) / options.slab * options.slab;
    if (options.limit != 0 && options.slab > options.limit) return nullptr;
    const unsigned arena = nursery_arena(options);
    void *memory = take_extent(size, options.slab, arena);
    if (memory == nullptr) return nullptr;
    const std::uintptr_t place =
        Nursery<Links>::first_block(options.slab, reinterpret_cast<std::uintptr_t>(memory));
    auto *heap = new (reinterpret_cast<void *>(place)) SlabHeap<Links>(front, options, memory, size, arena);
    shared_taken(arena, size);
    if (heap->start()) return heap;
    heap->~SlabHeap();
    give_extent(memory, size, options.slab);
    shared_given(arena, size, size);
    return nullptr;
}

template <class Links, const Front &self>
constexpr Front front_of{
    .alloc = slab_alloc<Links>,
    .create = create<Links, self>,
    .destroy = destroy<Links>,
    .trim = [](Heap &heap) { return heap_from<Links>(&heap).trim(); },
    .count = [](const Heap &heap,
                jemalloc_lua_stats &stats) { heap_from<Links>(const_cast<Heap *>(&heap)).count(stats); },
    .requests = [](const Heap &heap) { return heap_from<Links>(const_cast<Heap *>(&heap)).requests(); },
    .goes_as_a_whole = [](const Heap &) { return Links::before_header == 0; },
    .limit_changed = [](Heap &) {},
    .map_ahead = [](Heap &heap, bool wanted) { heap_from<Links>(&heap).pages().set_map_ahead(wanted); },
    .bytes_of = [](Heap &heap, const void *block,
                   std::size_t size) { return heap_from<Links>(&heap).bytes_of(block, size); },
    .verify = [](Heap &heap, const void *block,
                 std::size_t size) { heap_from<Links>(&heap).verify(block, size); },
    .is_valid = [](const Heap &heap) { return heap_from<Links>(const_cast<Heap *>(&heap)).is_valid(); },
};

}  // namespace

const Front slab_front = front_of<Plain, slab_front>;
const Front hardened_front = front_of<Hardened, hardened_front>;

}  // namespace jemalloc_lua
