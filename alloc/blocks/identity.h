// Whose blocks these are, for reports, and for the block that is LuaJIT's state.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

namespace jemalloc_lua {

struct Identity {
    // Any thread may ask, whose heap may be in use by another.
    bool holds(const void *address) const {
        void *&first = const_cast<void *&>(state_block);
        const auto *begin = static_cast<const char *>(std::atomic_ref(first).load(std::memory_order_acquire));
        return begin != nullptr && std::less_equal<>{}(begin, address) &&
               std::less<>{}(address, begin + state_block_size);
    }
    void set_state_block(void *block, std::size_t size) {
        state_block_size = size;
        std::atomic_ref(state_block).store(block, std::memory_order_release);
    }

    const void *heap = nullptr;
    // The first block that the heap handed out, and its size as LuaJIT knows it. LuaJIT's lua_State of the
    // main thread is the first thing in it.
    void *state_block = nullptr;
    std::size_t state_block_size = 0;
};

}  // namespace jemalloc_lua
