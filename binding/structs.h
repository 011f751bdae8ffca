// The structs that C++ and Lua share. Each is written once: the macro makes the C++ struct, and its own text
// is the declaration that the Lua side gives to ffi.typeof(), in which it puts the types that only it knows.
#pragma once

#include <stdint.h>  // NOLINT(modernize-deprecated-headers): C's names without std::, for the FFI

// NOLINTBEGIN(bugprone-macro-parentheses)
#define JEMALLOC_LUA_SHARED_STRUCT(Name, ...) \
    struct Name {                             \
        __VA_ARGS__                           \
    };                                        \
    inline constexpr const char *name_of_##Name = #Name, *cdef_of_##Name = "struct { " #__VA_ARGS__ " }";
// NOLINTEND(bugprone-macro-parentheses)

namespace jemalloc_lua {

using Element = char;  // of a buffer: to C++ its memory is bytes

// clang-format off

// An explicit tcache's object; the id is -1 once it is released.
JEMALLOC_LUA_SHARED_STRUCT(Tcache,
    int32_t _id;
)

// An arena's control block, which jemalloc holds and the collector does not see (lua/arena.lua). The last of
// its owners to go destroys the arena, so it does not matter in which order the collector, or a closing
// state, finds them: the arena's object, and each buffer in it. `tcache` is -1 where it has none of its own;
// `flags` are for mallocx().
JEMALLOC_LUA_SHARED_STRUCT(ArenaBlock,
    int32_t index, owners, tcache, flags;
)

// An arena's object; without a block once it is released.
JEMALLOC_LUA_SHARED_STRUCT(Arena,
    ArenaBlock *_block;
)

// A buffer's object. `_lead` is where the data begins in its block; `_held` the real size of a block in an
// arena, as it was charged; `_near` the length up to 2^31 - 1. The underscores keep the names apart from
// those of methods.
JEMALLOC_LUA_SHARED_STRUCT(Buffer,
    Element *_data;
    int64_t _n, _bytes, _lead, _held;
    int32_t _near, _flags;
    bool _freed, _in_arena;
    ArenaBlock *_arena;
)

// clang-format on

}  // namespace jemalloc_lua
