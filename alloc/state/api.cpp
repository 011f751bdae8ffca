// The C API of states and heaps.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "check/tools.h"
#include "check/verified.h"
#include "heap/heap.h"
#include "heap/scrubbing.h"
#include "heap/stats.h"
#include "luajit/collector.h"
#include "luajit/layout.h"
#include "state/closing.h"
#include "state/creation.h"
#include "state/inside.h"
#include "system/kernel.h"

namespace jemalloc_lua {

Heap *heap_of(lua_State *L) {
    if (L == nullptr) return nullptr;
    void *ud = nullptr;
    const lua_Alloc f = lua_getallocf(L, &ud);
    const bool is_entry =
        f == scrubbing_entry || f == verified_entry || f == closing_entry || f == creating_entry;
    if (is_front(f) || is_entry) return static_cast<Heap *>(ud);
    // A host or a profiler has put a function of its own before ours.
    Heap *heap = heap_with(luajit::global_state(L));
    if (heap == nullptr) return nullptr;
    const Identity &identity = heap->state.identity;
    const void *total = luajit::find_total(L, identity.state_block, identity.state_block_size);
    return total != nullptr ? heap : nullptr;
}

void count_heap(const Heap *heap, jemalloc_lua_stats *stats) {
    *stats = heap->stats();
}

void *resize_block(Heap *heap, void *block, std::size_t old_size, std::size_t new_size) {
    heap->front().map_ahead(*heap, false);
    void *resized = heap->entry()(heap, block, old_size, new_size);
    heap->front().map_ahead(*heap, true);
    return resized;
}

bool knows_blocks(const Heap *heap) {
    return &heap->front() != &direct_front && heap->state.verified == nullptr;
}

bool charge(Heap *heap, std::size_t bytes) {
    return heap->charge(bytes);
}

void uncharge(Heap *heap, std::size_t bytes) {
    heap->budget().uncharge(bytes);
}

void undo_charge(Heap *heap, std::size_t bytes) {
    heap->budget().undo_charge(bytes);
}

void clear(void *memory, std::size_t bytes) {
    clear_pages(memory, bytes);
}

void at_end(Heap *heap, AtEnd *what) {
    what->next = heap->state.at_end;
    heap->state.at_end = what;
}

std::size_t room_of(const Heap *heap) {
    return heap->budget().counts().room();
}

}  // namespace jemalloc_lua

using namespace jemalloc_lua;

lua_State *jemalloc_lua_newstate(void) {
    return create_state(nullptr);
}

lua_State *jemalloc_lua_newstate_opts(const jemalloc_lua_options *options) {
    return create_state(options);
}

void jemalloc_lua_close(lua_State *L) {
    if (L != nullptr) close_state(L);
}

int jemalloc_lua_get_stats(lua_State *L, jemalloc_lua_stats *stats) {
    const Heap *heap = heap_of(L);
    if (heap == nullptr || stats == nullptr || stats->size < first_stats_size) return EINVAL;
    const std::size_t size = stats->size;
    jemalloc_lua_stats now = heap->stats();
    now.size = size;
    now.live = luajit::live_bytes(L);
    std::memset(stats, 0, size);
    std::memcpy(stats, &now, std::min(size, sizeof now));
    return 0;
}

int jemalloc_lua_set_limit(lua_State *L, std::size_t bytes) {
    Heap *heap = heap_of(L);
    if (heap == nullptr) return EINVAL;
    heap->set_limit(bytes);
    return 0;
}

std::size_t jemalloc_lua_trim(lua_State *L) {
    const tools::Quiet quiet;  // free blocks lie beside those that memcheck forbids
    Heap *heap = heap_of(L);
    return heap == nullptr ? 0 : heap->trim();
}

int jemalloc_lua_get_arena(lua_State *L, unsigned *index) {
    const Heap *heap = heap_of(L);
    if (heap == nullptr || index == nullptr) return EINVAL;
    *index = heap->stats().arena;
    return 0;
}

jemalloc_lua_heap *jemalloc_lua_heap_create(const jemalloc_lua_options *options) {
    Heap *heap = create_heap(options, true);
    if (heap != nullptr) heap->begin();
    return heap;
}

void jemalloc_lua_heap_destroy(jemalloc_lua_heap *heap) {
    if (heap != nullptr) heap->end();
}

lua_Alloc jemalloc_lua_heap_alloc(jemalloc_lua_heap *heap) {
    return heap == nullptr ? nullptr : heap->entry();
}
