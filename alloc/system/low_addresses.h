// LuaJIT's pointers have 47 bits, and lua_newstate() refuses a state block above that. The kernels of most
// machines hand out more: an AArch64 with 48 bits of address space gives mmap() addresses from its upper
// half. The guard is a way of mapping for the arenas of this library under which none of their memory lies
// that high. It is part of their hooks (extent_hooks.h).
//
// On x86-64 nobody needs it: without a hint above 2^47, mmap() returns no address above 2^47, five levels of
// page tables or not (Documentation/arch/x86/x86_64/5level-paging.rst in Linux). So the guard is off there
// unless JEMALLOC_LUA_CONF has address_guard:true.
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/jemalloc.h"

namespace jemalloc_lua {

// Whether arenas need the guard. Decided once in a process.
bool addresses_are_guarded();

// As the hook `alloc` of `plain`, below the end of LuaJIT's addresses.
void *alloc_low(extent_hooks_t *plain, void *wanted, std::size_t size, std::size_t alignment, bool *zero,
                bool *commit, unsigned arena);

// For tests, before the first arena is made: where addresses begin that the guard takes for too high.
void lower_address_end(std::uintptr_t end);

}  // namespace jemalloc_lua
