// Where heaps get their arenas from.
//
// jemalloc has some 4,090 arenas, never frees one, and needs 100 us to make one. So an arena that a heap
// owned is emptied (arena.<i>.reset) and kept for the next heap. Heaps without an arena of their own share a
// small set, one for each CPU. The first of these is jemalloc's arena 0, if nobody else uses this jemalloc,
// so that a process with one small state makes no arena. If no arena is left, own_arena() says so, and the
// heap stays on a shared one.
//
// Any thread may call any of these, under the process's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace jemalloc_lua {

// One of the shared arenas, in turn. Arena 0 where jemalloc can't make any.
unsigned shared_arena();

// Tells what heaps hold of a shared arena. jemalloc purges dirty pages only while an arena is used, and the
// last heap of many to close uses it no more: when what was released exceeds what is still held, and some
// MiB, the arena is purged. A heap tells the bytes of its nursery as it begins. At its end, `taken` is the
// same bytes, and `dirty` all that it leaves there dirty.
void shared_taken(unsigned index, std::size_t bytes);
void shared_given(unsigned index, std::size_t taken, std::size_t dirty);

// An arena that no one else uses, with the given decay times (JEMALLOC_LUA_DECAY_DEFAULT: jemalloc's own).
std::optional<unsigned> own_arena(std::intptr_t dirty_decay_ms, std::intptr_t muzzy_decay_ms);

// Takes an own arena back. Everything still allocated from it is gone; no tcache may hold any of it.
void recycle_arena(unsigned index);

// Whether a heap may get this arena by its index: jemalloc has it, and it is neither one of those that heaps
// own in turn, each of which empties it at its end, nor a client's (ids.h).
bool arena_is_open(unsigned index);

// Whether addresses of the arena are low enough for LuaJIT wherever the kernel puts things: mappings.h.
// Those of the arenas above are.
bool arena_is_guarded(unsigned index);
// False where jemalloc could make no arena at all, so that what is shared is one of its own.
bool has_shared_arenas();

// The index of the arena that jemalloc gives the calling thread.
unsigned thread_arena();

// Memory of `size` bytes from an arena, for what heaps themselves lie in; null: out of memory. No tcache is
// used. Given back with the same size and alignment.
void *take_extent(std::size_t size, std::size_t alignment, unsigned index);
void give_extent(void *memory, std::size_t size, std::size_t alignment);

// Returns all dirty pages of an arena to the system. Of them, so many bytes stayed, because it does not take
// them (extent_hooks.h); SIZE_MAX: all.
std::size_t purge_arena(unsigned index);

// Bytes of an arena's dirty and muzzy pages. Refreshes jemalloc's statistics of all arenas:
// not for a hot path.
std::size_t dirty_bytes(unsigned index);

// Whether an extent of an arena which is a mapping of its own is given up as soon as it is freed. Sees to
// that where it can.
bool gives_up_at_once(unsigned index);

// The pages that an arena has given out. jemalloc's counter stays as long as the arena.
struct ActivePages {
    const std::size_t *count = nullptr;  // null where jemalloc does not tell
    std::size_t size = 0;                // bytes of a page
};
ActivePages active_pages(unsigned index);

}  // namespace jemalloc_lua
