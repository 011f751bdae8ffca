// The memory of buffers (lua/buffer.lua): allocated, resized and freed in one call each.
//
// The block counts towards the limit of the state that made the buffer, as the real bytes that jemalloc
// gives.

extern "C" {
#include <lua.h>
}

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "memory.h"
#include "state/inside.h"

namespace jemalloc_lua {
namespace {

// The struct of buffer.lua.
struct Buffer {
    char *data;
    std::int64_t n;
    std::int64_t bytes;
    std::int64_t held;  // the block's real size, as it was counted
    std::int32_t near;
    std::int32_t flags;
    bool freed;
    bool in_arena;
    ArenaBlock *arena;
};

enum Result { done, over_limit, no_memory };

constexpr int zero_flag = 0x40;

void free_block(const Memory *memory, Buffer *buffer) {
    if (buffer->data == nullptr) return;
    memory->sdallocx(buffer->data, static_cast<std::size_t>(buffer->bytes), buffer->flags);
    if (memory->heap != nullptr) uncharge(memory->heap, static_cast<std::size_t>(buffer->held));
    buffer->data = nullptr;
    buffer->held = 0;
}

int allocate(const Memory *memory, Buffer *buffer, std::size_t bytes, bool zero) {
    const std::size_t real = memory->nallocx(bytes, buffer->flags);
    const auto old_real = static_cast<std::size_t>(buffer->held);
    if (real == 0) return no_memory;
    if (memory->heap != nullptr && real > old_real && !charge(memory->heap, real - old_real))
        return over_limit;
    // jemalloc zeroes what comes after the old block, and of fresh pages touches none.
    const auto old = static_cast<std::size_t>(buffer->bytes);
    const int flags = buffer->flags | (zero ? zero_flag : 0);
    if (zero && old > 0 && bytes > old) std::memset(buffer->data + old, 0, std::min(bytes, old_real) - old);
    void *data =
        buffer->data == nullptr ? memory->mallocx(bytes, flags) : memory->rallocx(buffer->data, bytes, flags);
    if (data == nullptr) {
        if (memory->heap != nullptr && real > old_real) uncharge(memory->heap, real - old_real);
        return no_memory;
    }
    if (memory->heap != nullptr && real < old_real) uncharge(memory->heap, old_real - real);
    buffer->data = static_cast<char *>(data);
    buffer->held = static_cast<std::int64_t>(real);
    return done;
}

int resize(const Memory *memory, Buffer *buffer, std::int64_t n, std::int64_t bytes, bool zero) {
    if (bytes == 0) {
        free_block(memory, buffer);
    } else if (bytes != buffer->bytes) {
        const int result = allocate(memory, buffer, static_cast<std::size_t>(bytes), zero);
        if (result != done) return result;
    }
    buffer->n = n;
    buffer->bytes = bytes;
    buffer->near = n < INT32_MAX ? static_cast<std::int32_t>(n) : INT32_MAX;
    return done;
}

// The bytes that it had; 0 the second time.
double release(Memory *memory, Buffer *buffer) {
    const auto bytes = static_cast<double>(buffer->bytes);
    free_block(memory, buffer);
    buffer->n = buffer->bytes = 0;
    buffer->near = 0;
    buffer->freed = true;
    if (buffer->in_arena) {
        buffer->in_arena = false;
        drop(memory, buffer->arena);
    }
    return bytes;
}

}  // namespace

void add_buffers(lua_State *L, int native) {
    lua_getfield(L, native, "functions");
    lua_pushlightuserdata(L, reinterpret_cast<void *>(resize));
    lua_setfield(L, -2, "buffer_resize");
    lua_pushlightuserdata(L, reinterpret_cast<void *>(release));
    lua_setfield(L, -2, "buffer_release");
    lua_settop(L, -2);
}

}  // namespace jemalloc_lua
