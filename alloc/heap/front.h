// A front: how a heap cuts its memory into blocks. A table of functions, chosen once when the heap is made,
// so that nothing on the way of a request asks how the heap is configured.
#pragma once

#include <cstddef>
#include <cstdint>

#include "config/options.h"

struct jemalloc_lua_heap;

namespace jemalloc_lua {

using Heap = jemalloc_lua_heap;

struct Front {
    lua_Alloc alloc;
    Heap *(*create)(const Options &);  // null: out of memory
    // Releases the heap and all in it, the heap itself included.
    void (*destroy)(Heap &);
    // Releases idle memory and purges; returns the bytes.
    std::size_t (*trim)(Heap &);
    // Fills in the statistics that only the front knows.
    void (*count)(const Heap &, jemalloc_lua_stats &);
    std::uint64_t (*requests)(const Heap &);
    // Whether blocks need not be freed before the heap's end: all memory goes with it.
    bool (*goes_as_a_whole)(const Heap &);
    // The limit has changed, or what it leaves without the front's doing.
    void (*limit_changed)(Heap &);
    // Whether blocks are Lua's, which writes to what it asks for, so that pages may be mapped ahead.
    void (*map_ahead)(Heap &, bool);
    // Bytes of a block in use. `size` is the caller's word, which need not be true.
    std::size_t (*bytes_of)(Heap &, const void *block, std::size_t size);
    // Reports where no block in use of `size` bytes begins at `block`; null: the front verifies nothing.
    void (*verify)(Heap &, const void *block, std::size_t size);
    // What holds for all of the heap: for tests.
    bool (*is_valid)(const Heap &);
};

extern const Front slab_front;
extern const Front hardened_front;
extern const Front direct_front;

// The front that the options ask for.
const Front &front_for(const Options &options);
// Whether an allocator function is one of a front's.
bool is_front(lua_Alloc f);

}  // namespace jemalloc_lua
