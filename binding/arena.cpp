// Arenas and tcaches of the module (lua/arena.lua), made and released in one call each, and blocks that move.

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include <cerrno>
#include <cstdio>
#include <new>

#include "memory.h"

// Weak for the same reason as in module.cpp.
#pragma weak lua_newuserdata
#pragma weak lua_tointeger
#pragma weak lua_topointer

namespace jemalloc_lua {
namespace {

// Of control blocks: the thread's cache may hold freed blocks of an arena that is about to go.
constexpr int block_flags = je::no_tcache_flag;

// ---- Tcaches

// 0 or an errno.
int create_tcache(Memory *memory, Tcache *tcache) {
    unsigned id = 0;
    std::size_t size = sizeof id;
    const int error = memory->mallctl("tcache.create", &id, &size, nullptr, 0);
    if (error != 0) return error;
    if (id < je::tcache_ids) memory->live_tcaches[id] = 1;
    tcache->_id = static_cast<std::int32_t>(id);
    return 0;
}

void release_tcache(Memory *memory, Tcache *tcache) {
    if (tcache->_id < 0) return;
    auto id = static_cast<unsigned>(tcache->_id);
    tcache->_id = -1;
    if (id < je::tcache_ids) memory->live_tcaches[id] = 0;
    memory->mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

// ---- Arenas

// 0 or an errno; then nothing is left behind.
int create_arena(Memory *memory, Arena *arena, bool with_tcache) {
    auto *block = static_cast<ArenaBlock *>(memory->mallocx(sizeof(ArenaBlock), block_flags));
    if (block == nullptr) return ENOMEM;
    unsigned index = 0;
    std::size_t size = sizeof index;
    const int error = memory->mallctl("arenas.create", &index, &size, nullptr, 0);
    if (error != 0) {
        memory->sdallocx(block, sizeof *block, block_flags);
        return error;
    }
    Tcache tcache{-1};
    if (with_tcache) create_tcache(memory, &tcache);  // without one where jemalloc has no more
    const int cache =
        tcache._id >= 0 ? je::tcache_flag(static_cast<unsigned>(tcache._id)) : je::no_tcache_flag;
    *block = {static_cast<std::int32_t>(index), 1, tcache._id, je::arena_flag(index) | cache};
    arena->_block = block;
    return 0;
}

void release_arena(Memory *memory, Arena *arena) {
    ArenaBlock *block = arena->_block;
    if (block == nullptr) return;
    arena->_block = nullptr;
    drop(memory, block);
}

// ---- Blocks that move

// The address that a pointer object holds.
void **address_in(lua_State *L, int index) {
    return static_cast<void **>(const_cast<void *>(lua_topointer(L, index)));
}

// A block has moved, or there was no memory; pushes which.
bool put(lua_State *L, void **address, void *moved) {
    if (moved != nullptr) *address = moved;
    lua_pushboolean(L, moved != nullptr ? 1 : 0);
    return moved != nullptr;
}

// (memory, object of a pointer that is moved, size, flags) -> whether it was
int move_block(lua_State *L) {
    const auto *memory = static_cast<const Memory *>(lua_touserdata(L, 1));
    void **address = address_in(L, 2);
    const auto size = static_cast<std::size_t>(luaL_checknumber(L, 3));
    put(L, address, memory->rallocx(*address, size, static_cast<int>(lua_tointeger(L, 4))));
    return 1;
}

// (memory, object of a pointer that is moved, size) -> whether it was, errno
int move_standard_block(lua_State *L) {
    const auto *memory = static_cast<const Memory *>(lua_touserdata(L, 1));
    void **address = address_in(L, 2);
    if (put(L, address, memory->realloc(*address, static_cast<std::size_t>(luaL_checknumber(L, 3)))))
        return 1;
    lua_pushnumber(L, errno);
    return 2;
}

// A function of the table on top of the stack.
template <class Function>
void get(lua_State *L, const char *name, Function *function) {
    lua_getfield(L, -1, name);
    *function = reinterpret_cast<Function>(lua_touserdata(L, -1));
    lua_settop(L, -2);
}

}  // namespace

void drop(Memory *memory, ArenaBlock *block) {
    if (--block->owners > 0) return;
    // Freed blocks of this arena may lie in caches, which must not meet them after the arena is gone.
    Tcache own{block->tcache};
    release_tcache(memory, &own);
    for (unsigned id = 0; id < je::tcache_ids; ++id) {
        if (memory->live_tcaches[id] == 0) continue;
        memory->mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
    }
    memory->mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    char name[32];
    std::snprintf(name, sizeof name, "arena.%d.destroy", block->index);
    memory->mallctl(name, nullptr, nullptr, nullptr, 0);
    memory->sdallocx(block, sizeof *block, block_flags);
}

void add_memory(lua_State *L, int native) {
    auto *memory = new (lua_newuserdata(L, sizeof(Memory))) Memory{};
    lua_setfield(L, native, "memory");
    memory->heap = heap_of(L);
    lua_getfield(L, native, "functions");
    get(L, "mallocx", &memory->mallocx);
    get(L, "rallocx", &memory->rallocx);
    get(L, "sdallocx", &memory->sdallocx);
    get(L, "nallocx", &memory->nallocx);
    get(L, "realloc", &memory->realloc);
    get(L, "mallctl", &memory->mallctl);
    set_address(L, "live_tcaches", memory->live_tcaches.data());
    lua_settop(L, -2);
}

void add_arenas(lua_State *L, int native) {
    lua_getfield(L, native, "functions");
    set_address(L, "tcache_create", reinterpret_cast<void *>(create_tcache));
    set_address(L, "tcache_release", reinterpret_cast<void *>(release_tcache));
    set_address(L, "arena_create", reinterpret_cast<void *>(create_arena));
    set_address(L, "arena_release", reinterpret_cast<void *>(release_arena));
    lua_settop(L, -2);
    lua_pushcclosure(L, move_block, 0);
    lua_setfield(L, native, "move");
    lua_pushcclosure(L, move_standard_block, 0);
    lua_setfield(L, native, "move_standard");
}

}  // namespace jemalloc_lua
