// LuaJIT's pointers have 47 bits, and lua_newstate() refuses a state block above that. The kernels of most
// machines hand out more: an AArch64 with 48 bits of address space gives mmap() addresses from its upper
// half. The guard is a set of jemalloc's extent hooks for the arenas of this library under which none of
// their memory lies that high.
//
// Only the hook that maps new memory differs from jemalloc's own. jemalloc decides above the hooks how an
// arena grows, what it retains and when pages are purged (extent.c in jemalloc 5.3), so that stays the same.
//
// On x86-64 nobody needs it: without a hint above 2^47, mmap() returns no address above 2^47, five levels of
// page tables or not (Documentation/arch/x86/x86_64/5level-paging.rst in Linux). So the guard is off there
// unless JEMALLOC_LUA_CONF has address_guard:true.
#pragma once

#include <cstdint>

#include "system/jemalloc.h"

namespace jemalloc_lua {

// The hooks for an arena of ours; null where the guard is not needed. Decided once in a process.
extent_hooks_t *guard_hooks();

// For tests, before the first arena is made: where addresses begin that the guard takes for too high.
void lower_address_end(std::uintptr_t end);

}  // namespace jemalloc_lua
