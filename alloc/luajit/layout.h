// What is known of LuaJIT's insides: each fact once, with its source, the versions that it holds for, how it
// is verified, and what happens where it does not hold. File names are those of LuaJIT's src/.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "jemalloc_lua.h"

namespace jemalloc_lua::luajit {

// ---- Addresses

// The end of what LuaJIT can point to: references have 47 bits (LJ_GC64, lj_obj.h; since 2.1 with GC64).
// lua_newstate() verifies it for the state block alone. If it does not hold: refused or corrupted states;
// system/mappings.h keeps extents below it.
inline constexpr std::uintptr_t address_end = std::uintptr_t{1} << 47;

// ---- The state

// The global_State that a state's coroutines share: lua_State.glref (lj_obj.h; all of 2.1 with GC64).
// Verified by find_total() below: who looks up a heap by it accepts no other.
inline const void *global_state(const lua_State *L) {
    return reinterpret_cast<void *const *>(L)[2];
}

// ---- Allocation

// LJ_ALLOCF_INTERNAL (lj_state.h), by which a caller of lua_newstate() asks for LuaJIT's own allocator (2.1
// since 2020; older ones have no such value). A host's own function never has this address. Not verified: if
// LuaJIT changes the value, a host under the shim gets what it would have got without.
inline bool is_internal_allocator(lua_Alloc f) {
    return reinterpret_cast<std::uintptr_t>(f) == std::uintptr_t{1237} << 4;
}

// lua_newstate() crashes when one of its requests 2 to 7 is refused, on any allocator: close_state()
// (lj_state.c) takes the string table for made. All of 2.1. Not verified; tools/oom refuses each request. If
// fewer are fragile: a state that could not be made is left by a jump, which is harmless.
inline constexpr std::size_t fragile_requests = 7;

// By how much LuaJIT may understate a closure's size when it frees one that it could not finish: the
// references to upvalues, of which there are 60 at most (lj_func_newL_gc() in lj_func.c, LJ_MAX_UPVAL in
// lj_def.h; all of 2.1). Only after a refusal. Not verified; a larger difference is a wrong size.
inline constexpr std::size_t max_upvalues_size = std::size_t{60} * 8;

// Sizes of tables' parts, which LuaJIT clears as soon as it has them: arrays of 2^n + 1 values of 8 bytes,
// hash parts of 2^n nodes of 24 bytes (lj_tab.c, lj_obj.h; all of 2.1 with GC64). Not verified: a wrong
// guess maps pages early or late, and no more. Buffers and userdata, which may never be filled, differ.
constexpr bool is_table_part(std::size_t size) {
    constexpr std::size_t value = 8;
    constexpr std::size_t node = 24;
    return std::has_single_bit(size - value) || (size % node == 0 && std::has_single_bit(size / node));
}

// ---- Objects

// The head of each collectable object (GCHeader in lj_obj.h; all of 2.1 with GC64). Verified by the sweep
// cut at each close: where anything differs, nothing is cut.
struct Object {
    Object *next;
    std::uint8_t marked;
    std::uint8_t type;
};
inline constexpr std::uint8_t thread_type = 6;  // ~LJ_TTHREAD
inline constexpr std::uint8_t table_type = 11;  // ~LJ_TTAB
inline constexpr std::uint8_t whites = 0x03;    // LJ_GC_WHITES
inline constexpr std::uint8_t fixed = 0x20;     // LJ_GC_FIXED: the collector leaves the object alone

// The count of live bytes (gc.total) follows the allocator function and its `ud` in global_State (lj_obj.h;
// all of 2.1 with GC64). Found by these two in the state block, and verified by its value. Null where what
// follows them is not that count.
std::uint64_t *find_total(lua_State *L, void *state_block, std::size_t state_block_size);

}  // namespace jemalloc_lua::luajit
