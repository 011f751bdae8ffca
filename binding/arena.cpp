// The module's arenas and tcaches (lua/arena.lua), each made and released in one call.

extern "C" {
#include <lua.h>
}

#include <cerrno>
#include <cstdio>

#include "memory.h"

namespace jemalloc_lua {
namespace {

// ---- Tcaches

void note_tcache(Memory *memory, unsigned id) {
    if (id < je::tcache_ids) memory->made_in[id] = forks() + 1;
}
int is_live(const Memory *memory, unsigned id) {
    return memory->is_live(id) ? 1 : 0;
}
void forget_tcache(Memory *memory, unsigned id) {
    if (id < je::tcache_ids) memory->made_in[id] = 0;
}

// 0 or an errno.
int create_tcache(Memory *memory, Tcache *tcache) {
    unsigned id = 0;
    std::size_t size = sizeof id;
    const int error = memory->mallctl("tcache.create", &id, &size, nullptr, 0);
    if (error != 0) return error;
    note_tcache(memory, id);
    tcache->_id = static_cast<std::int32_t>(id);
    return 0;
}

void release_tcache(Memory *memory, Tcache *tcache) {
    if (tcache->_id < 0) return;
    auto id = static_cast<unsigned>(tcache->_id);
    tcache->_id = -1;
    const bool live = memory->is_live(id);
    forget_tcache(memory, id);
    if (live) memory->mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

// ---- Arenas

// 0, or an errno with nothing made.
int create_arena(Memory *memory, Arena *arena, bool with_tcache) {
    auto *block = memory->arenas.reserve(*memory)
                      ? static_cast<ArenaBlock *>(memory->mallocx(sizeof(ArenaBlock), record_flags))
                      : nullptr;
    if (block == nullptr) return ENOMEM;
    unsigned index = 0;
    std::size_t size = sizeof index;
    const int error = memory->mallctl("arenas.create", &index, &size, nullptr, 0);
    if (error != 0) {
        memory->sdallocx(block, sizeof *block, record_flags);
        return error;
    }
    Tcache tcache{-1};
    if (with_tcache) create_tcache(memory, &tcache);  // jemalloc has some 4,090: without one if all are taken
    const int cache =
        tcache._id >= 0 ? je::tcache_flag(static_cast<unsigned>(tcache._id)) : je::no_tcache_flag;
    *block = {static_cast<std::int32_t>(index), 1, tcache._id, je::arena_flag(index) | cache};
    memory->arenas.add(block, sizeof *block);
    arena->_block = block;
    return 0;
}

void call_arena(const Memory *memory, const ArenaBlock &block, const char *action) {
    char name[32];
    std::snprintf(name, sizeof name, "arena.%d.%s", block.index, action);
    memory->mallctl(name, nullptr, nullptr, nullptr, 0);
}

void destroy_arena(Memory *memory, ArenaBlock *block) {
    // Caches may hold freed blocks of this arena, and must not hand them out once it is destroyed.
    Tcache own{block->tcache};
    release_tcache(memory, &own);
    for (unsigned id = 0; id < je::tcache_ids; ++id) {
        if (!memory->is_live(id)) continue;
        memory->mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
    }
    memory->mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    call_arena(memory, *block, "destroy");
    memory->sdallocx(block, sizeof *block, record_flags);
}

void release_arena(Memory *memory, Arena *arena) {
    ArenaBlock *block = arena->_block;
    if (block == nullptr) return;
    arena->_block = nullptr;
    drop(memory, block);
}

}  // namespace

void release_arenas(Memory *memory) {
    memory->arenas.for_each(
        [memory](void *block, std::size_t) { destroy_arena(memory, static_cast<ArenaBlock *>(block)); });
    memory->arenas.free_table(*memory);
    for (unsigned id = 0; id < je::tcache_ids; ++id) {
        Tcache tcache{static_cast<std::int32_t>(id)};
        if (memory->is_live(id)) release_tcache(memory, &tcache);
    }
}

// Purges at once what heaps let come together (purge_step in alloc/policy/retention.h).
void note_dirty(Memory *memory, std::size_t bytes) {
    constexpr std::size_t purge_step = std::size_t{4} << 20;
    memory->dirty += bytes;
    if (memory->dirty < purge_step || memory->heap == nullptr || room_of(memory->heap) == SIZE_MAX) return;
    memory->dirty = 0;
    memory->arenas.for_each([memory](void *block, std::size_t) {
        call_arena(memory, *static_cast<ArenaBlock *>(block), "purge");
    });
}

void drop(Memory *memory, ArenaBlock *block) {
    if (--block->owners > 0) return;
    memory->arenas.remove(block);
    destroy_arena(memory, block);
}

void add_arenas(lua_State *L, int native) {
    lua_getfield(L, native, "functions");
    set_address(L, "tcache_note", reinterpret_cast<void *>(note_tcache));
    set_address(L, "tcache_is_live", reinterpret_cast<void *>(is_live));
    set_address(L, "tcache_forget", reinterpret_cast<void *>(forget_tcache));
    set_address(L, "tcache_create", reinterpret_cast<void *>(create_tcache));
    set_address(L, "tcache_release", reinterpret_cast<void *>(release_tcache));
    set_address(L, "arena_create", reinterpret_cast<void *>(create_arena));
    set_address(L, "arena_release", reinterpret_cast<void *>(release_arena));
    lua_settop(L, -2);
}

}  // namespace jemalloc_lua
