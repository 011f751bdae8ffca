// When the objects of a state go that its finalizers left, or made.
//
// While a state closes, LuaJIT runs no finalizer of C data that was made in a finalizer, and whatever such a
// buffer, arena or tcache holds would stay for ever. A finalizer may also use what another has released. So
// all of it goes at one moment: when no finalizer can run any more. The heap of a state of ours tells of
// that. In another state a marker tells, a userdata that the registry holds. lua_close() calls its finalizer,
// which puts a function in front of the state's allocator; lua_close() frees userdata after all finalizers,
// and the function sees the marker go. It takes itself away then: LuaJIT knows its own allocator by its
// function.

extern "C" {
#include <lua.h>
}

#include <cstdio>
#include <functional>
#include <new>

#include "memory.h"

// Weak: see module.cpp.
#pragma weak lua_newuserdata

namespace jemalloc_lua {
namespace {

struct Marker {
    Memory *memory;  // null: there was none for it
    lua_State *L;
    lua_Alloc alloc;  // the state's own
    void *ud;
};

void end_of_state(AtEnd *end) {
    auto *memory = static_cast<Memory *>(end);
    release_buffers(memory);
    release_arenas(memory);
    memory->sdallocx(memory, sizeof *memory, record_flags);
}

void *watching_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    const Marker marker = *static_cast<Marker *>(ud);
    const char *block = static_cast<char *>(ptr);
    const bool is_marker = block != nullptr && new_size == 0 && std::less_equal<>()(block, ud) &&
                           std::less<>()(static_cast<char *>(ud), block + old_size);
    if (is_marker) {
        lua_setallocf(marker.L, marker.alloc, marker.ud);
        end_of_state(marker.memory);
    }
    return marker.alloc(marker.ud, ptr, old_size, new_size);
}

// The finalizer of the marker, which lua_close() calls in the main thread.
int begin_to_watch(lua_State *L) {
    auto *marker = static_cast<Marker *>(lua_touserdata(L, 1));
    if (marker == nullptr || marker->memory == nullptr || marker->alloc != nullptr) return 0;
    marker->L = L;
    marker->alloc = lua_getallocf(L, &marker->ud);
    lua_setallocf(L, watching_entry, marker);
    return 0;
}

}  // namespace

void *push_marker(lua_State *L) {
    auto *marker = new (lua_newuserdata(L, sizeof(Marker))) Marker{};
    lua_createtable(L, 0, 1);
    lua_pushcclosure(L, begin_to_watch, 0);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    char name[48];
    std::snprintf(name, sizeof name, "jemalloc_lua %p", static_cast<void *>(marker));
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, name);
    return marker;
}

void await_end(void *marker, Memory *memory) {
    memory->run = end_of_state;
    if (memory->heap != nullptr) return at_end(memory->heap, memory);
    static_cast<Marker *>(marker)->memory = memory;
}

}  // namespace jemalloc_lua
