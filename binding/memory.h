// What the module's C functions share: the functions of the jemalloc that it has bound, and the arenas and
// tcaches that it made. One for each state, in a userdata of the module's; used by the state's thread.
//
// These functions are in C++ because Lua cannot do their work safely. An address that a C function returns to
// Lua is boxed in an object, as is one that is read from a struct; where there is no memory for that object
// the block is lost. Here the fields of buffers, arenas and tcaches are right before Lua may raise an error,
// and to release one takes no memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "pressure.h"
#include "state/inside.h"
#include "structs.h"

namespace jemalloc_lua {

struct Memory {
    Heap *heap;  // null where the state is not ours
    void *(*mallocx)(std::size_t, int);
    void *(*rallocx)(void *, std::size_t, int);
    void (*sdallocx)(void *, std::size_t, int);
    std::size_t (*nallocx)(std::size_t, int);
    void *(*realloc)(void *, std::size_t);  // null where there is none
    int (*mallctl)(const char *, void *, std::size_t *, void *, std::size_t);
    Pressure pressure;  // of the buffers
    // By id: of a tcache that the module made, which may hold blocks of any arena, forks() when it was made
    // and 1 more; else 0. One from before a fork is jemalloc's no longer, and is not touched: is_live().
    std::array<std::uint32_t, je::tcache_ids> made_in;

    bool is_live(unsigned tcache) const { return tcache < je::tcache_ids && made_in[tcache] == forks() + 1; }
};

// One of an arena's owners goes; the last one destroys the arena.
void drop(Memory *memory, ArenaBlock *block);

// Put into the table at `native` what the Lua side needs. add_provider() comes first: it fills `functions`.
// Where the process lacks the jemalloc that JEMALLOC_PREFIX asks for, it raises an error.
void add_provider(lua_State *L, int native);
void add_memory(lua_State *L, int native);
void add_buffers(lua_State *L, int native);
void add_arenas(lua_State *L, int native);
void add_heap(lua_State *L, int native);

// Set a field of the table at the top of the stack, or of the one at `table`.
void set_address(lua_State *L, const char *name, void *address);
void set_number(lua_State *L, const char *name, double value);
void set_function(lua_State *L, int table, const char *name, int (*function)(lua_State *));

}  // namespace jemalloc_lua
