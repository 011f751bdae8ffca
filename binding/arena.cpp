// Arenas and tcaches of the module (lua/arena.lua), made and released in one call each, and blocks that move.

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include <cerrno>
#include <cstdio>
#include <new>

#include "memory.h"
#include "state/inside.h"

// Weak for the same reason as in module.cpp.
#pragma weak lua_newuserdata
#pragma weak lua_tointeger
#pragma weak lua_topointer

namespace jemalloc_lua {
namespace {

// For an arena's record as well: the thread's cache may hold freed blocks of another arena, which goes.
constexpr int no_tcache_flag = 0x100;

int arena_flag(unsigned index) {
    return static_cast<int>((index + 1) << 20);
}
int tcache_flag(int id) {
    return (id + 2) << 8;
}

// ---- Tcaches

// The struct of arena.lua; id is -1 where there is none.
struct Tcache {
    std::int32_t id;
};

// 0 or an errno.
int create_tcache(Memory *memory, Tcache *tcache) {
    unsigned id = 0;
    std::size_t size = sizeof id;
    const int error = memory->mallctl("tcache.create", &id, &size, nullptr, 0);
    if (error != 0) return error;
    if (id < max_tcaches) memory->live_tcaches[id] = 1;
    tcache->id = static_cast<std::int32_t>(id);
    return 0;
}

void release_tcache(Memory *memory, Tcache *tcache) {
    if (tcache->id < 0) return;
    auto id = static_cast<unsigned>(tcache->id);
    tcache->id = -1;
    if (id < max_tcaches) memory->live_tcaches[id] = 0;
    memory->mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

// ---- Arenas

// The struct of arena.lua.
struct Arena {
    ArenaBlock *block;
};

// 0 or an errno; then nothing is left behind.
int create_arena(Memory *memory, Arena *arena, bool with_tcache) {
    auto *block = static_cast<ArenaBlock *>(memory->mallocx(sizeof(ArenaBlock), no_tcache_flag));
    if (block == nullptr) return ENOMEM;
    unsigned index = 0;
    std::size_t size = sizeof index;
    const int error = memory->mallctl("arenas.create", &index, &size, nullptr, 0);
    if (error != 0) {
        memory->sdallocx(block, sizeof *block, no_tcache_flag);
        return error;
    }
    Tcache tcache{-1};
    if (with_tcache) create_tcache(memory, &tcache);  // without one where jemalloc has no more
    const int cache = tcache.id >= 0 ? tcache_flag(tcache.id) : no_tcache_flag;
    *block = {static_cast<std::int32_t>(index), 1, tcache.id, arena_flag(index) | cache};
    arena->block = block;
    return 0;
}

void release_arena(Memory *memory, Arena *arena) {
    ArenaBlock *block = arena->block;
    if (block == nullptr) return;
    arena->block = nullptr;
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

void set_address(lua_State *L, const char *name, void *address) {
    lua_pushlightuserdata(L, address);
    lua_setfield(L, -2, name);
}

}  // namespace

void drop(Memory *memory, ArenaBlock *block) {
    if (--block->owners > 0) return;
    // Freed blocks of this arena may lie in caches, which must not meet them after the arena is gone.
    Tcache own{block->tcache};
    release_tcache(memory, &own);
    for (unsigned id = 0; id < max_tcaches; ++id) {
        if (memory->live_tcaches[id] == 0) continue;
        memory->mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
    }
    memory->mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    char name[32];
    std::snprintf(name, sizeof name, "arena.%d.destroy", block->index);
    memory->mallctl(name, nullptr, nullptr, nullptr, 0);
    memory->sdallocx(block, sizeof *block, no_tcache_flag);
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
