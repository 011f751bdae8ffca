// Those who look on: the file of live statistics, the shim's report. A heap knows them only as Observers.
//
// They are told off the allocation path, by the thread that uses the heap. None of these functions may call
// Lua, nor allocate from the heap.
#pragma once

struct jemalloc_lua_heap;

namespace jemalloc_lua {

using Heap = jemalloc_lua_heap;

struct Observer {
    // A state has begun on the heap, or the heap was made by jemalloc_lua_heap_create().
    void (*begun)(Heap &heap) = nullptr;
    // Its statistics have changed: the footprint moved by 16 KiB and one part in 256, a slab was used up or
    // emptied, 64 blocks of the nursery came or went, a request was refused, the limit was set.
    void (*changed)(Heap &heap) = nullptr;
    // The heap ends; its statistics can still be read.
    void (*ended)(Heap &heap) = nullptr;

    Observer *next = nullptr;
};

// The observer, each of whose functions may be null, is told of all heaps from now on. It lives as long as
// the process. Any thread.
void add_observer(Observer &observer);

}  // namespace jemalloc_lua
