// The extent hooks of this library's arenas: how they take memory from the system, and how it goes back.
//
// jemalloc keeps the addresses of what an arena once had, and returns pages by madvise() alone. A system may
// refuse that: memory that is locked (mlockall()), or a filter of system calls. jemalloc takes no notice
// then, and what was purged stays for ever. These hooks notice it, and go another way from then on: a
// read-only mapping replaces what an arena would purge, and what it has not used yet. jemalloc calls that
// decommitted.
//
// The range itself stays the arena's. jemalloc joins what lies side by side, and tells arenas apart by the
// first extent of each mapping alone: with a hole in a mapping, it would join extents of two arenas.
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/jemalloc.h"

namespace jemalloc_lua {

// The hooks; null where jemalloc does not tell its own. Made once in a process.
extent_hooks_t *arena_hooks();

// How pages go back: as jemalloc_lua.h's enum jemalloc_lua_way_back.
enum class WayBack : unsigned { purge, remap, none };
WayBack way_back();

// Bytes of arenas with these hooks which the system took neither way. Only the difference of two calls tells
// something: another thread may purge as well.
std::uint64_t bytes_that_stayed();

// Looks whether address space is bounded (short_space.h). From then on, extents that are mappings of their
// own are unmapped when they go. False: it is not, or nothing can be done.
bool notice_bounds();

// Asks the system, with a page of its own: for arenas without these hooks.
bool pages_can_be_purged();

}  // namespace jemalloc_lua
