// Whose blocks these are, for reports, and for the block that is LuaJIT's state.
#pragma once

#include <cstddef>

namespace jemalloc_lua {

struct Identity {
    const void *heap = nullptr;
    // The first block that the heap handed out, and its size as LuaJIT knows it. LuaJIT's lua_State of the
    // main thread is the first thing in it.
    void *state_block = nullptr;
    std::size_t state_block_size = 0;
};

}  // namespace jemalloc_lua
