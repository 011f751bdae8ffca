// Mappings for the arenas of this library; their hooks (extent_hooks.h) call this.
//
// A mapping begins at a multiple of a slab's size, of the largest one's unless it is smaller itself, and can
// be read from the start. So what lies before a block, down to a multiple of a slab's size, is the same
// mapping's and can be read: free() looks for a slab's header there before it knows whether the block lies in
// a slab (blocks/slab.h).
//
// Where LuaJIT needs it, addresses lie below what its pointers hold, too. They have 47 bits, and
// lua_newstate() refuses a state block above that. The kernels of most machines hand out more: an AArch64
// with 48 bits of address space gives mmap() addresses from its upper half. On x86-64 nobody needs it:
// without a hint above 2^47, mmap() returns no address above 2^47, five levels of page tables or not
// (Documentation/arch/x86/x86_64/ 5level-paging.rst in Linux). So this guard is off there unless
// JEMALLOC_LUA_CONF has address_guard:true.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

// Whether arenas need the address guard. Decided once in a process.
bool addresses_are_guarded();

// Private, anonymous pages of zeros, as mmap() takes them; at `wanted` where that is not null. Null: none.
void *map_pages(void *wanted, std::size_t size, std::size_t alignment, int protection);

// For tests, before the first arena is made: where addresses begin that the guard takes for too high.
void lower_address_end(std::uintptr_t end);

}  // namespace jemalloc_lua
