// What the module's C functions share: the functions of the jemalloc that it has bound, and the arenas and
// tcaches that it made. One for each state, in a userdata of the module's; used by the state's thread.
//
// These functions are C because Lua can't do it safely: an address that a C function returns to Lua is boxed
// in an object, as is one that is read from a struct, and where there is no memory for that object the block
// is lost. Here the fields of buffers, arenas and tcaches are right before Lua may raise an error, and to
// release one takes no memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

struct lua_State;
struct jemalloc_lua_heap;

namespace jemalloc_lua {

// One more than the last id that MALLOCX_TCACHE() takes.
inline constexpr std::size_t max_tcaches = 4094;

struct Memory {
    jemalloc_lua_heap *heap;  // null where the state is not ours
    void *(*mallocx)(std::size_t, int);
    void *(*rallocx)(void *, std::size_t, int);
    void (*sdallocx)(void *, std::size_t, int);
    std::size_t (*nallocx)(std::size_t, int);
    void *(*realloc)(void *, std::size_t);  // null where there is none
    int (*mallctl)(const char *, void *, std::size_t *, void *, std::size_t);
    std::array<std::uint8_t, max_tcaches>
        live_tcaches;  // 1: made by the module, may hold blocks of any arena
};

// An arena's control block, which jemalloc holds and the collector does not see (lua/arena.lua). The last of
// its owners to go destroys the arena, so it does not matter in which order the collector, or a closing
// state, finds them: the arena's object, and each buffer in it.
struct ArenaBlock {
    std::int32_t index;
    std::int32_t owners;
    std::int32_t tcache;  // -1: none of its own
    std::int32_t flags;   // for mallocx()
};
void drop(Memory *memory, ArenaBlock *block);

// Put what the Lua side needs into the table at `native`, whose `functions` are filled in.
void add_memory(lua_State *L, int native);
void add_buffers(lua_State *L, int native);
void add_arenas(lua_State *L, int native);

}  // namespace jemalloc_lua
