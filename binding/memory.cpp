// The module's record of its state's memory, and blocks that move (rallocx and realloc in lua/core.lua).

extern "C" {
#include <lauxlib.h>
#include <lua.h>
}

#include <cerrno>
#include <new>

#include "memory.h"

// Weak: see module.cpp.
#pragma weak lua_newuserdata
#pragma weak lua_tointeger
#pragma weak lua_topointer

namespace jemalloc_lua {
namespace {

// Where a pointer object holds its address. The move is stored there at once, so the address of a moved block
// is never lost between C++ and Lua.
void **address_in(lua_State *L, int index) {
    return static_cast<void **>(const_cast<void *>(lua_topointer(L, index)));
}

// Stores the address of a block that has moved; null where there was no memory. Pushes whether it has moved.
bool store(lua_State *L, void **address, void *moved) {
    if (moved != nullptr) *address = moved;
    lua_pushboolean(L, moved != nullptr ? 1 : 0);
    return moved != nullptr;
}

// (memory, pointer object, size, flags) -> whether the block was resized
int move_block(lua_State *L) {
    const auto *memory = static_cast<const Memory *>(lua_touserdata(L, 1));
    void **address = address_in(L, 2);
    const auto size = static_cast<std::size_t>(luaL_checknumber(L, 3));
    store(L, address, memory->rallocx(*address, size, static_cast<int>(lua_tointeger(L, 4))));
    return 1;
}

// (memory, pointer object, size) -> whether the block was resized; else errno too
int move_standard_block(lua_State *L) {
    const auto *memory = static_cast<const Memory *>(lua_touserdata(L, 1));
    void **address = address_in(L, 2);
    const auto size = static_cast<std::size_t>(luaL_checknumber(L, 3));
    void *moved = nullptr;
    if (*address != nullptr && memory->ids->arenas_chosen != 0) {
        moved = memory->rallocx(*address, size, je::no_tcache_flag);
        if (moved == nullptr) errno = ENOMEM;
    } else {
        moved = memory->realloc(*address, size);
    }
    if (store(L, address, moved)) return 1;
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

void set_address(lua_State *L, const char *name, void *address) {
    lua_pushlightuserdata(L, address);
    lua_setfield(L, -2, name);
}

void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

void set_function(lua_State *L, int table, const char *name, int (*function)(lua_State *)) {
    lua_pushcclosure(L, function, 0);
    lua_setfield(L, table, name);
}

bool Owned::reserve(const Memory &memory) {
    if (!table_.is_full()) return true;
    constexpr std::size_t first = 64;
    const std::size_t capacity = table_.capacity() == 0 ? first : 2 * table_.capacity();
    AddressTable::Entry *old = table_.entries();
    const std::size_t old_bytes = table_.capacity() * sizeof *old;
    void *array = memory.mallocx(capacity * sizeof *old, record_flags | je::zero_flag);
    if (array == nullptr) return false;
    table_.move_to(static_cast<AddressTable::Entry *>(array), capacity);
    if (old != nullptr) memory.sdallocx(old, old_bytes, record_flags);
    return true;
}

void Owned::free_table(const Memory &memory) {
    if (table_.entries() == nullptr) return;
    memory.sdallocx(table_.entries(), table_.capacity() * sizeof(AddressTable::Entry), record_flags);
}

void add_memory(lua_State *L, int native) {
    void *marker = push_marker(L);
    Memory memory{};
    memory.heap = heap_of(L);
    lua_getfield(L, native, "functions");
    get(L, "mallocx", &memory.mallocx);
    get(L, "rallocx", &memory.rallocx);
    get(L, "dallocx", &memory.dallocx);
    get(L, "sdallocx", &memory.sdallocx);
    get(L, "nallocx", &memory.nallocx);
    get(L, "realloc", &memory.realloc);
    get(L, "mallctl", &memory.mallctl);
    memory.ids = ids_of(memory.mallctl);
    memory.client = new_client();
    void *place = memory.ids == nullptr ? nullptr : memory.mallocx(sizeof memory, record_flags);
    if (place == nullptr) {
        lua_pushstring(L, "not enough memory");
        lua_error(L);
    }
    await_end(marker, new (place) Memory(memory));
    lua_settop(L, native);
    lua_pushlightuserdata(L, place);
    lua_setfield(L, native, "memory");
    set_number(L, "client", memory.client);
    lua_getfield(L, native, "functions");
    set_address(L, "arena_owners", memory.ids->arenas.data());
    set_address(L, "tcache_owners", memory.ids->tcaches.data());
    set_address(L, "arenas_chosen", &memory.ids->arenas_chosen);
    lua_settop(L, native);
    set_function(L, native, "move", move_block);
    set_function(L, native, "move_standard", move_standard_block);
}

}  // namespace jemalloc_lua
