// The memory of buffers (lua/buffer.lua): allocated, resized and freed in one call each.
//
// These are C because Lua can't do it safely: an address that a C function returns to Lua is boxed in an
// object, and where there is no memory for that object the block is lost, or the buffer left with its old
// address. Here the buffer's fields are right before Lua may raise an error. The block counts towards the
// limit of the state that made the buffer, as the real bytes that jemalloc gives.

#include "buffer.h"

extern "C" {
#include <lua.h>
}

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../alloc/hold.h"

// Weak for the same reason as in module.cpp.
#pragma weak lua_newuserdata

namespace jemalloc_lua {
namespace {

// What buffers of one state are allocated by: the functions of the jemalloc that the module has bound.
struct Memory {
    jemalloc_lua_heap *heap;  // null where the state is not ours
    void *(*mallocx)(std::size_t, int);
    void *(*rallocx)(void *, std::size_t, int);
    void (*sdallocx)(void *, std::size_t, int);
    std::size_t (*nallocx)(std::size_t, int);
};

// The head of buffer.lua's struct.
struct Buffer {
    char *data;
    std::int64_t n;
    std::int64_t bytes;
    std::int64_t held;  // the block's real size, as it was counted
    std::int32_t near;
    std::int32_t flags;
    bool freed;
};

enum Result { done, over_limit, no_memory };

constexpr int zero_flag = 0x40;

void free_block(const Memory *memory, Buffer *buffer) {
    if (buffer->data == nullptr) return;
    memory->sdallocx(buffer->data, static_cast<std::size_t>(buffer->bytes), buffer->flags);
    if (memory->heap != nullptr) let_go(memory->heap, static_cast<std::size_t>(buffer->held));
    buffer->data = nullptr;
    buffer->held = 0;
}

int allocate(const Memory *memory, Buffer *buffer, std::size_t bytes, bool zero) {
    const std::size_t real = memory->nallocx(bytes, buffer->flags);
    const auto old_real = static_cast<std::size_t>(buffer->held);
    if (real == 0) return no_memory;
    if (memory->heap != nullptr && real > old_real && !hold(memory->heap, real - old_real)) return over_limit;
    const auto old = static_cast<std::size_t>(buffer->bytes);
    void *data = buffer->data == nullptr ? memory->mallocx(bytes, buffer->flags | (zero ? zero_flag : 0))
                                         : memory->rallocx(buffer->data, bytes, buffer->flags);
    if (data == nullptr) {
        if (memory->heap != nullptr && real > old_real) let_go(memory->heap, real - old_real);
        return no_memory;
    }
    if (memory->heap != nullptr && real < old_real) let_go(memory->heap, old_real - real);
    if (zero && old > 0 && bytes > old) std::memset(static_cast<char *>(data) + old, 0, bytes - old);
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
double release(const Memory *memory, Buffer *buffer) {
    const auto bytes = static_cast<double>(buffer->bytes);
    free_block(memory, buffer);
    buffer->n = buffer->bytes = 0;
    buffer->near = 0;
    buffer->freed = true;
    return bytes;
}

template <class Function>
void get(lua_State *L, const char *name, Function *function) {
    lua_getfield(L, -1, name);
    *function = reinterpret_cast<Function>(lua_touserdata(L, -1));
    lua_settop(L, -2);
}

}  // namespace

void add_buffer_memory(lua_State *L, int native) {
    auto *memory = static_cast<Memory *>(lua_newuserdata(L, sizeof(Memory)));
    lua_setfield(L, native, "buffer_memory");
    memory->heap = heap_of(L);
    lua_getfield(L, native, "functions");
    get(L, "mallocx", &memory->mallocx);
    get(L, "rallocx", &memory->rallocx);
    get(L, "sdallocx", &memory->sdallocx);
    get(L, "nallocx", &memory->nallocx);
    lua_pushlightuserdata(L, reinterpret_cast<void *>(resize));
    lua_setfield(L, -2, "buffer_resize");
    lua_pushlightuserdata(L, reinterpret_cast<void *>(release));
    lua_setfield(L, -2, "buffer_release");
    lua_settop(L, -2);
}

}  // namespace jemalloc_lua
