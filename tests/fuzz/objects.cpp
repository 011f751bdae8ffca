// The objects of the Lua module in any order: arenas, tcaches, buffers and blocks, of three states at a time
// that open and close, with finalizers that make and use more of them while a state closes. objects.lua takes
// the steps. No block may change while its owner has it, and when all states are closed no arena and no
// tcache is left.

#include <fuzzer/FuzzedDataProvider.h>
#include <jemalloc_lua.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lua.hpp>

#include "module.h"
#include "must.h"
#include "state/inside.h"

namespace {

constexpr int state_count = 3;
lua_State *states[state_count];
FuzzedDataProvider *input;
int depth = 0;

int choose(lua_State *L) {
    const int last = static_cast<int>(lua_tointeger(L, 1)) - 1;
    lua_pushinteger(L, last <= 0 ? 0 : input->ConsumeIntegralInRange<int>(0, last));
    return 1;
}

[[noreturn]] void die(const char *text) {
    std::fprintf(stderr, "module: objects: %s\n", text);
    std::abort();
}

// Calls a global function with the `arguments` on the stack's top. What fails for want of memory, or because
// an object is gone or full, is part of the game; a changed byte is not.
void call(lua_State *L, const char *name, int arguments) {
    lua_getglobal(L, name);
    lua_insert(L, -1 - arguments);
    if (lua_pcall(L, arguments, 0, 0) == 0) return;
    const char *text = lua_tostring(L, -1);
    if (text != nullptr && std::strstr(text, "a byte of") != nullptr) die(text);
    lua_pop(L, 1);
}

// (address, size): the next state that is open frees the block.
int to_another_state(lua_State *L) {
    for (lua_State *other : states) {
        if (other == nullptr || other == L || depth > 0) continue;
        ++depth;
        lua_pushnumber(other, lua_tonumber(L, 1));
        lua_pushnumber(other, lua_tonumber(L, 2));
        call(other, "free_for_another_state", 2);
        --depth;
        return 0;
    }
    return 0;
}

int prepare(lua_State *L) {
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_jemalloc);
    lua_setfield(L, -2, "jemalloc");
    if (luaL_loadfile(L, JEMALLOC_LUA_FUZZ_OBJECTS) != 0) lua_error(L);
    lua_pushcfunction(L, choose);
    lua_pushcfunction(L, to_another_state);
#ifdef JEMALLOC_LUA_SEEDED_FAULT
    lua_pushboolean(L, 1);
#else
    lua_pushboolean(L, 0);
#endif
    lua_call(L, 3, 0);
    return 0;
}

lua_State *open_state(int kind) {
    static constexpr const char *confs[] = {"front:slab",  "front:slab,arena:own", "front:direct",
                                            "harden:true", "front:checked",        "scrub:true"};
    lua_State *L = nullptr;
    if (kind == 0) {
        L = luaL_newstate();
    } else {
        jemalloc_lua_options options;
        jemalloc_lua_options_init(&options);
        must(jemalloc_lua_options_parse(&options, confs[kind - 1], nullptr, 0) == 0);
        L = jemalloc_lua_newstate_opts(&options);
    }
    must(L != nullptr);
    if (lua_cpcall(L, prepare, nullptr) != 0) die(lua_tostring(L, -1));
    return L;
}

void close_state(lua_State *&L, bool plainly) {
    if (L == nullptr) return;
    call(L, "look_at_all", 0);
    lua_State *closing = L;
    ++depth;  // it is not called any more
    L = nullptr;
    plainly ? lua_close(closing) : jemalloc_lua_close(closing);
    --depth;
}

bool is_clean() {
    using jemalloc_lua::Ids;
    const Ids &ids = jemalloc_lua::own_ids;
    for (const std::uint32_t owner : ids.arenas) {
        if (owner >= Ids::first_client) return false;
    }
    for (const std::uint32_t owner : ids.tcaches) {
        if (owner != Ids::open) return false;
    }
    return ids.arenas_of_clients == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    FuzzedDataProvider in(data, size);
    input = &in;
    while (in.remaining_bytes() > 0) {
        lua_State *&L = states[in.ConsumeIntegralInRange(0, state_count - 1)];
        if (L == nullptr) {
            L = open_state(in.ConsumeIntegralInRange(0, 6));
        } else if (in.ConsumeIntegralInRange(0, 30) == 0) {
            close_state(L, in.ConsumeBool());
        } else {
            for (int i = 0; i < 4; ++i) call(L, "step", 0);
        }
    }
    for (lua_State *&L : states) {
        if (L != nullptr) call(L, "look_at_all", 0);
    }
    for (lua_State *&L : states) close_state(L, false);
    must(is_clean());
    return 0;
}
