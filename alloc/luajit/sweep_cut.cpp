#include "luajit/sweep_cut.h"

#include <lua.hpp>

#include "state/watch.h"

// Not every Lua has these, and a heap serves each.
#pragma weak lua_cpcall
#pragma weak luaJIT_setmode

namespace jemalloc_lua {

// The head of each of LuaJIT's objects.
struct SweepCut::Object {
    Object *next;
    std::uint8_t marked;
    std::uint8_t type;
};

namespace {

constexpr std::uint8_t thread_type = 6;  // ~LJ_TTHREAD
constexpr std::uint8_t table_type = 11;  // ~LJ_TTAB
constexpr std::uint8_t whites = 0x03;    // LJ_GC_WHITES
constexpr std::uint8_t fixed = 0x20;     // LJ_GC_FIXED

// The count of live bytes follows the allocator function and its `ud` in global_State. Null where what
// follows them is not that.
std::uint64_t *find_total(lua_State *L, void *block, std::size_t size) {
    void *ud = nullptr;
    const lua_Alloc alloc = lua_getallocf(L, &ud);
    auto *words = static_cast<std::uint64_t *>(block);
    for (std::size_t i = 0; i + 2 < size / sizeof *words; ++i) {
        if (words[i] != reinterpret_cast<std::uintptr_t>(alloc)) continue;
        if (words[i + 1] != reinterpret_cast<std::uintptr_t>(ud)) continue;
        return words[i + 2] == live_bytes(L) ? &words[i + 2] : nullptr;
    }
    return nullptr;
}

}  // namespace

int SweepCut::put_mark(lua_State *L) {
    auto *self = static_cast<SweepCut *>(lua_touserdata(L, 1));
    const auto object_at = [L](int index) {
        return static_cast<Object *>(const_cast<void *>(lua_topointer(L, index)));
    };
    // Traces are on the list too, and a debugger that was told of them (LUAJIT_USE_GDBJIT) must hear of their
    // end; they are flushed for that. Handlers of jit.attach() would be called.
    lua_getfield(L, LUA_REGISTRYINDEX, "_VMEVENTS");
    if (!lua_isnil(L, -1)) return 0;
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 0);
    const Object *older = object_at(-2);
    Object *mark = object_at(-1);
    const auto *main = reinterpret_cast<const Object *>(self->state_);
    if (mark->next == older && older->type == table_type && mark->type == table_type &&
        (mark->marked & ~whites) == 0 && main->type == thread_type) {
        mark->marked |= fixed;
        self->mark_ = mark;
    }
    return 0;
}

void SweepCut::prepare(lua_State *state, void *block, std::size_t block_size) {
    if (luaJIT_setmode == nullptr) return;  // not LuaJIT
    state_ = state;
    block_size_ = block_size;
    found_total_ = find_total(state, block, block_size);
    // Where there is no memory for it, no mark is put, and nothing is cut.
    if (found_total_ != nullptr) lua_cpcall(state, put_mark, this);
}

void SweepCut::cut() {
    auto *main = reinterpret_cast<Object *>(state_);
    Object *next = mark_->next;
    mark_ = nullptr;
    if (next != main) next->next = main;
    total_ = found_total_;
}

}  // namespace jemalloc_lua
