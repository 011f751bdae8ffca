#include "luajit/sweep_cut.h"

#include <lua.hpp>

// Not every Lua has these, and a heap serves each.
#pragma weak lua_cpcall
#pragma weak luaJIT_setmode

namespace jemalloc_lua::luajit {

int SweepCut::put_sentinel(lua_State *L) {
    auto *self = static_cast<SweepCut *>(lua_touserdata(L, 1));
    const auto object_at = [L](int index) {
        return static_cast<Object *>(const_cast<void *>(lua_topointer(L, index)));
    };
    // Traces are on the list too, and a debugger that was told of them (LUAJIT_USE_GDBJIT) must hear of their
    // end, so they are flushed first. Handlers of jit.attach() would hear of that: then nothing is cut.
    lua_getfield(L, LUA_REGISTRYINDEX, "_VMEVENTS");
    if (!lua_isnil(L, -1)) return 0;
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 0);
    const Object *older = object_at(-2);
    Object *sentinel = object_at(-1);
    const auto *main = reinterpret_cast<const Object *>(self->state_);
    if (sentinel->next == older && older->type == table_type && sentinel->type == table_type &&
        (sentinel->marked & ~whites) == 0 && main->type == thread_type) {
        sentinel->marked |= fixed;
        self->sentinel_ = sentinel;
    }
    return 0;
}

void SweepCut::prepare(lua_State *state, void *block, std::size_t block_size) {
    if (luaJIT_setmode == nullptr) return;  // not LuaJIT
    state_ = state;
    block_size_ = block_size;
    found_total_ = find_total(state, block, block_size);
    // Without memory for the sentinel nothing is cut.
    if (found_total_ != nullptr) lua_cpcall(state, put_sentinel, this);
}

void SweepCut::cut() {
    auto *main = reinterpret_cast<Object *>(state_);
    Object *next = sentinel_->next;
    sentinel_ = nullptr;
    if (next != main) next->next = main;
    total_ = found_total_;
}

}  // namespace jemalloc_lua::luajit
