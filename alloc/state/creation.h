// States and heaps, made from options.
#pragma once

#include "heap/heap.h"

namespace jemalloc_lua {

// A heap for options that may be null; null, and errno is EINVAL or ENOMEM. `limited`: the limit of the
// options holds from the start.
Heap *create_heap(const Options *given, bool limited);

// A state on a heap of its own; null, and errno is EINVAL, ENOMEM or ENOTSUP.
lua_State *create_state(const Options *given);

// The entry of a state while lua_newstate() runs.
void *creating_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

}  // namespace jemalloc_lua
