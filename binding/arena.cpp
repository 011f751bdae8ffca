// The module's arenas and tcaches (lua/arena.lua), each made and released in one call, and what a script may
// do to those that it knows by number (lua/ctl.lua).
//
// No cache holds a block of an arena when that goes. A thread's own cache gets none: a block that was taken
// from an arena by choice does not come out of it, and once there has been such an arena no freed block goes
// into it (lua/arguments.lua). An explicit tcache serves one state, and may hold blocks of that state's
// arenas, so it is flushed; of another state's it gets none.

extern "C" {
#include <lua.h>
}

#include <cerrno>
#include <cstdio>

#include "memory.h"

namespace jemalloc_lua {
namespace {

// ---- Tcaches

bool is_ours(const Memory &memory, unsigned tcache) {
    return tcache < je::tcache_ids && (memory.ids->tcaches[tcache] & ~Ids::by_number) == memory.client;
}

template <class F>
void for_each_tcache(const Memory &memory, F &&f) {
    for (unsigned id = 0; id < je::tcache_ids; ++id) {
        if (is_ours(memory, id)) f(id);
    }
}

// 0 or an errno.
int create_tcache(Memory *memory, Tcache *tcache) {
    unsigned id = 0;
    const int error = create_tcache(*memory->ids, memory->client, &id);
    if (error == 0) tcache->_id = static_cast<std::int32_t>(id);
    return error;
}

void release_tcache(Memory *memory, Tcache *tcache) {
    if (tcache->_id < 0) return;
    const auto id = static_cast<unsigned>(tcache->_id);
    tcache->_id = -1;
    if (is_ours(*memory, id)) destroy_tcache(*memory->ids, id);
}

int create_tcache_by_number(const Memory *memory, unsigned *id, void *) {
    return create_tcache(*memory->ids, memory->client | Ids::by_number, id);
}

// An object's tcache is flushed by its number as well, but the object releases it.
int change_tcache_by_number(const Memory *memory, unsigned id, bool destroys) {
    if (!is_ours(*memory, id)) return EINVAL;
    if (!destroys) {
        flush_tcache(*memory->ids, id);
        return 0;
    }
    if ((memory->ids->tcaches[id] & Ids::by_number) == 0) return EPERM;
    destroy_tcache(*memory->ids, id);
    return 0;
}

// The flags by which a block is freed into a tcache; another state's block is freed past it.
int cache_flags(const Memory *memory, const void *block, int flags) {
    if (memory->ids->arenas_of_clients == memory->arenas.count()) return flags;
    unsigned index = 0;
    std::size_t size = sizeof index;
    if (memory->mallctl("arenas.lookup", &index, &size, &block, sizeof block) != 0) return flags;
    const std::uint32_t owner = index < Ids::count ? memory->ids->arenas[index] : Ids::open;
    if (owner < Ids::first_client || owner == memory->client) return flags;
    return (flags & ~je::tcache_mask) | je::no_tcache_flag;
}

// ---- Arenas

void flush_caches(const Memory &memory) {
    for_each_tcache(memory, [&](unsigned id) { flush_tcache(*memory.ids, id); });
    memory.mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
}

// 0, or an errno with nothing made.
int create_arena(Memory *memory, Arena *arena, bool with_tcache) {
    auto *block = memory->arenas.reserve(*memory)
                      ? static_cast<ArenaBlock *>(memory->mallocx(sizeof(ArenaBlock), record_flags))
                      : nullptr;
    if (block == nullptr) return ENOMEM;
    unsigned index = 0;
    const int error = create_arena(*memory->ids, memory->client, &index);
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

void destroy_arena(Memory *memory, ArenaBlock *block) {
    Tcache own{block->tcache};
    release_tcache(memory, &own);
    flush_caches(*memory);
    destroy_arena(*memory->ids, static_cast<unsigned>(block->index));
    memory->sdallocx(block, sizeof *block, record_flags);
}

void release_arena(Memory *memory, Arena *arena) {
    ArenaBlock *block = arena->_block;
    if (block == nullptr) return;
    arena->_block = nullptr;
    drop(memory, block);
}

int create_arena_by_number(const Memory *memory, unsigned *index, void *hooks) {
    const int error = create_arena(*memory->ids, Ids::open, index, hooks);
    memory->ids->arenas_chosen = 1;
    return error;
}

// Before all blocks of an arena go at a script's word: 0, or an errno if it may not do that.
int prepare_to_empty(const Memory *memory, unsigned index, bool destroys) {
    if (index >= Ids::count) return 0;
    const std::uint32_t owner = memory->ids->arenas[index];
    bool has_buffers = false;
    memory->arenas.for_each([&](void *at, std::size_t) {
        const auto &block = *static_cast<ArenaBlock *>(at);
        if (block.index == static_cast<std::int32_t>(index) && block.owners > 1) has_buffers = true;
    });
    const bool may = owner == Ids::open || (owner == memory->client && !destroys && !has_buffers);
    if (!may) return EPERM;
    flush_caches(*memory);
    return 0;
}

}  // namespace

void release_arenas(Memory *memory) {
    memory->arenas.for_each(
        [memory](void *block, std::size_t) { destroy_arena(memory, static_cast<ArenaBlock *>(block)); });
    memory->arenas.free_table(*memory);
    for_each_tcache(*memory, [&](unsigned id) { destroy_tcache(*memory->ids, id); });
}

// Purges at once what heaps let come together (purge_step in alloc/policy/retention.h).
void note_dirty(Memory *memory, std::size_t bytes) {
    constexpr std::size_t purge_step = std::size_t{4} << 20;
    memory->dirty += bytes;
    if (memory->dirty < purge_step || memory->heap == nullptr || room_of(memory->heap) == SIZE_MAX) return;
    memory->dirty = 0;
    memory->arenas.for_each([memory](void *block, std::size_t) {
        char name[32];
        std::snprintf(name, sizeof name, "arena.%d.purge", static_cast<ArenaBlock *>(block)->index);
        memory->mallctl(name, nullptr, nullptr, nullptr, 0);
    });
}

void drop(Memory *memory, ArenaBlock *block) {
    if (--block->owners > 0) return;
    memory->arenas.remove(block);
    destroy_arena(memory, block);
}

void add_arenas(lua_State *L, int native) {
    lua_getfield(L, native, "functions");
    set_address(L, "tcache_create",
                reinterpret_cast<void *>(static_cast<int (*)(Memory *, Tcache *)>(create_tcache)));
    set_address(L, "tcache_release", reinterpret_cast<void *>(release_tcache));
    set_address(L, "tcache_create_by_number", reinterpret_cast<void *>(create_tcache_by_number));
    set_address(L, "tcache_change_by_number", reinterpret_cast<void *>(change_tcache_by_number));
    set_address(L, "cache_flags", reinterpret_cast<void *>(cache_flags));
    set_address(L, "arena_create",
                reinterpret_cast<void *>(static_cast<int (*)(Memory *, Arena *, bool)>(create_arena)));
    set_address(L, "arena_release", reinterpret_cast<void *>(release_arena));
    set_address(L, "arena_create_by_number", reinterpret_cast<void *>(create_arena_by_number));
    set_address(L, "arena_prepare_to_empty", reinterpret_cast<void *>(prepare_to_empty));
    lua_settop(L, -2);
}

}  // namespace jemalloc_lua
