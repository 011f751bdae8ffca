#include "state/closing.h"

#include "heap/heap.h"
#include "state/inside.h"

namespace jemalloc_lua {

void *closing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    Heap &heap = *static_cast<Heap *>(ud);
    Heap::State &state = heap.state;
    if (new_size == 0) {
        if (state.cut.is_sentinel(ptr)) {
            state.cut.cut();
            state.frees_nothing = true;
        }
        if (state.frees_nothing) {
            if (state.ends_with(ptr)) heap.end();
            return nullptr;
        }
    }
    return heap.entry()(ud, ptr, old_size, new_size);
}

void close_state(lua_State *L) {
    Heap *heap = heap_of(L);
    const bool is_plain = heap != nullptr && lua_getallocf(L, nullptr) == heap->front().alloc;
    if (is_plain && heap->state.main != nullptr && heap->front().goes_as_a_whole(*heap)) {
        const Identity &identity = heap->state.identity;
        lua_setallocf(L, closing_entry, heap);
        heap->state.cut.prepare(heap->state.main, identity.state_block, identity.state_block_size);
    }
    lua_close(L);
}

}  // namespace jemalloc_lua
