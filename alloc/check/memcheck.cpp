#include "check/memcheck.h"

namespace jemalloc_lua::memcheck {

#ifdef JEMALLOC_LUA_MEMCHECK
namespace {

constexpr std::size_t red_zone = 16;

// Other tools of Valgrind's answer no client request of memcheck's.
bool running() {
    char byte = 0;
    return VALGRIND_MAKE_MEM_DEFINED(&byte, 1) != 0;
}

bool is_slab(const Heap *heap) {
    for (const FrontEnd *front :
         {&slab_front, &slab_scrub_front, &slab_harden_front, &slab_harden_scrub_front}) {
        if (heap->front->alloc == front->alloc) return true;
    }
    return false;
}

// The pool comes to be with its first block, so that it is there for heaps of every origin.
void add(Heap *heap, void *ptr, std::size_t size) {
    if (!VALGRIND_MEMPOOL_EXISTS(heap)) VALGRIND_CREATE_MEMPOOL(heap, red_zone, 0);
    VALGRIND_MEMPOOL_ALLOC(heap, ptr, size);
    (void)VALGRIND_MAKE_MEM_NOACCESS(static_cast<char *>(ptr) + size, red_zone);
}

std::size_t with_red_zone(std::size_t size) {
    return size == 0 || size > PTRDIFF_MAX ? size : size + red_zone;
}

void *watched_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<Heap *>(ud);
    const lua_Alloc alloc = heap->front->alloc;
    const Quiet quiet;
    if (ptr != nullptr) {
        // The last block of a state takes the heap with it.
        if (new_size == 0 && heap->ends_with(ptr)) {
            VALGRIND_DESTROY_MEMPOOL(heap);
        } else {
            VALGRIND_MEMPOOL_FREE(heap, ptr);
        }
        old_size = with_red_zone(old_size);
    }
    void *block = alloc(ud, ptr, old_size, with_red_zone(new_size));
    if (block != nullptr) {
        add(heap, block, new_size);
        const std::size_t kept = ptr == nullptr ? 0 : old_size - red_zone;
        if (kept != 0) (void)VALGRIND_MAKE_MEM_DEFINED(block, kept < new_size ? kept : new_size);
    } else if (ptr != nullptr && new_size != 0) {
        add(heap, ptr, old_size - red_zone);
        (void)VALGRIND_MAKE_MEM_DEFINED(ptr, old_size - red_zone);
    }
    return block;
}

}  // namespace

lua_Alloc entry(const Heap *heap) {
    return running() && is_slab(heap) ? watched_alloc : heap->front->alloc;
}

bool is_entry(lua_Alloc f) {
    return f == watched_alloc;
}

void destroy(Heap *heap) {
    const Quiet quiet;
    if (running() && VALGRIND_MEMPOOL_EXISTS(heap)) VALGRIND_DESTROY_MEMPOOL(heap);
    heap->front->destroy(heap);
}

#else

lua_Alloc entry(const Heap *heap) {
    return heap->front->alloc;
}

bool is_entry(lua_Alloc) {
    return false;
}

void destroy(Heap *heap) {
    heap->front->destroy(heap);
}

#endif

}  // namespace jemalloc_lua::memcheck
