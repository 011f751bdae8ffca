// The memory of buffers (lua/buffer.lua): allocated, resized and freed in one call each.
//
// A buffer without an arena is a block of the heap of its state, as Lua's own are: limit, statistics,
// scrubbing and purging follow. In a state that is not ours it is jemalloc's. A block in an arena is charged
// to the heap, with the real bytes that jemalloc gives, so that it counts towards the limit.

extern "C" {
#include <lua.h>
}

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "memory.h"

namespace jemalloc_lua {
namespace {

// What resize() returns. `due` means done, and that the collector is to be pushed.
enum Result { done, due, over_limit, no_memory };

// ---- Blocks of the heap, aligned to 16 bytes: one with a larger alignment has room to begin later

std::size_t slack_of(const Buffer *buffer) {
    const std::size_t alignment = std::size_t{1} << (buffer->_flags & je::align_mask);
    return alignment > 16 ? alignment - 16 : 0;
}

char *start_of(const Buffer *buffer) {
    return buffer->_data == nullptr ? nullptr : buffer->_data - buffer->_lead;
}
std::size_t size_of(const Buffer *buffer) {
    return buffer->_data == nullptr ? 0 : static_cast<std::size_t>(buffer->_bytes) + slack_of(buffer);
}

Result allocate_in_heap(Memory *memory, Buffer *buffer, std::size_t bytes, bool zero) {
    const std::size_t slack = slack_of(buffer);
    const auto old = static_cast<std::size_t>(buffer->_bytes);
    if (slack > PTRDIFF_MAX - bytes) return no_memory;
    const bool is_known = knows_blocks(memory->heap);
    if (!is_known && !memory->blocks.reserve(*memory)) return no_memory;
    char *from = start_of(buffer);
    auto *block = static_cast<char *>(resize_block(memory->heap, from, size_of(buffer), bytes + slack));
    if (block == nullptr) return room_of(memory->heap) == SIZE_MAX ? no_memory : over_limit;
    if (!is_known && from != nullptr) memory->blocks.remove(from);
    if (!is_known) memory->blocks.add(block, bytes + slack);
    const std::size_t lead = -reinterpret_cast<std::uintptr_t>(block) & (slack == 0 ? 0 : slack + 15);
    const auto old_lead = static_cast<std::size_t>(buffer->_lead);
    if (lead != old_lead && from != nullptr)
        std::memmove(block + lead, block + old_lead, std::min(old, bytes));
    buffer->_data = block + lead;
    buffer->_lead = static_cast<std::int64_t>(lead);
    if (zero && bytes > old) clear(buffer->_data + old, bytes - old);
    return done;
}

// ---- Blocks of jemalloc's: in an arena, or in a state that is not ours

Result allocate_in_jemalloc(Memory *memory, Buffer *buffer, std::size_t bytes, bool zero) {
    const std::size_t real = memory->nallocx(bytes, buffer->_flags);
    const auto old_real = static_cast<std::size_t>(buffer->_held);
    if (real == 0) return no_memory;
    if (!buffer->_in_arena && !memory->blocks.reserve(*memory)) return no_memory;
    const bool grows = memory->heap != nullptr && real > old_real;
    if (grows && !charge(memory->heap, real - old_real)) return over_limit;
    // jemalloc zeroes the bytes after the old block, and does not touch fresh pages for that.
    const auto old = static_cast<std::size_t>(buffer->_bytes);
    const int flags = buffer->_flags | (zero ? je::zero_flag : 0);
    if (zero && old > 0 && bytes > old) std::memset(buffer->_data + old, 0, std::min(bytes, old_real) - old);
    void *data = buffer->_data == nullptr ? memory->mallocx(bytes, flags)
                                          : memory->rallocx(buffer->_data, bytes, flags);
    if (data == nullptr) {
        if (grows) undo_charge(memory->heap, real - old_real);
        return no_memory;
    }
    if (memory->heap != nullptr && real < old_real) uncharge(memory->heap, old_real - real);
    if (buffer->_in_arena) {
        const std::size_t kept = data == buffer->_data ? real : 0;
        note_dirty(memory, old_real - std::min(old_real, kept));
    } else {
        if (buffer->_data != nullptr) memory->blocks.remove(buffer->_data);
        memory->blocks.add(data, bytes);
    }
    buffer->_data = static_cast<char *>(data);
    buffer->_held = static_cast<std::int64_t>(real);
    return done;
}

// ----

bool lies_in_heap(const Memory *memory, const Buffer *buffer) {
    return memory->heap != nullptr && !buffer->_in_arena;
}

void free_block(Memory *memory, Buffer *buffer) {
    if (buffer->_data == nullptr) return;
    if (lies_in_heap(memory, buffer)) {
        if (!knows_blocks(memory->heap)) memory->blocks.remove(start_of(buffer));
        resize_block(memory->heap, start_of(buffer), size_of(buffer), 0);
    } else {
        if (!buffer->_in_arena) memory->blocks.remove(buffer->_data);
        memory->sdallocx(buffer->_data, static_cast<std::size_t>(buffer->_bytes), buffer->_flags);
        if (memory->heap != nullptr) uncharge(memory->heap, static_cast<std::size_t>(buffer->_held));
        if (buffer->_in_arena) note_dirty(memory, static_cast<std::size_t>(buffer->_held));
    }
    buffer->_data = nullptr;
    buffer->_lead = buffer->_held = 0;
}

Result allocate(Memory *memory, Buffer *buffer, std::size_t bytes, bool zero) {
    return lies_in_heap(memory, buffer) ? allocate_in_heap(memory, buffer, bytes, zero)
                                        : allocate_in_jemalloc(memory, buffer, bytes, zero);
}

// Called by the FFI, perhaps from compiled code, so it runs no Lua and leaves the collector alone.
int resize(Memory *memory, Buffer *buffer, std::int64_t n, std::int64_t bytes, bool zero) {
    const std::int64_t old = buffer->_bytes;
    if (bytes == 0) {
        free_block(memory, buffer);
    } else if (bytes != old) {
        const Result result = allocate(memory, buffer, static_cast<std::size_t>(bytes), zero);
        if (result != done) return result;
    }
    buffer->_n = n;
    buffer->_bytes = bytes;
    buffer->_near = n < INT32_MAX ? static_cast<std::int32_t>(n) : INT32_MAX;
    if (bytes <= old) {
        memory->pressure.leave(old - bytes);
        return done;
    }
    memory->pressure.enter(bytes - old);
    constexpr std::size_t plenty = INT64_MAX;
    const std::size_t room = memory->heap != nullptr ? std::min(room_of(memory->heap), plenty) : plenty;
    return memory->pressure.is_due(static_cast<std::int64_t>(room)) ? due : done;
}

// A second call does nothing.
void release(Memory *memory, Buffer *buffer) {
    memory->pressure.leave(buffer->_bytes);
    free_block(memory, buffer);
    buffer->_n = buffer->_bytes = 0;
    buffer->_near = 0;
    buffer->_freed = true;
    if (buffer->_in_arena) {
        buffer->_in_arena = false;
        drop(memory, buffer->_arena);
    }
}

double held(const Memory *memory) {
    return static_cast<double>(memory->pressure.held());
}

// ---- The collector

// A collector that the host or the script has stopped stays stopped. LuaJIT also stops it while a finalizer
// runs. A LuaJIT that lacks LUA_GCISRUNNING answers -1.
bool is_running(lua_State *L) {
    return lua_gc(L, LUA_GCISRUNNING, 0) != 0;
}

// (memory): steps the collector by what the pressure asks for.
int push_collector(lua_State *L) {
    auto *memory = static_cast<Memory *>(lua_touserdata(L, 1));
    if (!is_running(L)) return 0;
    const int kilobytes = static_cast<int>(std::min<std::int64_t>(memory->pressure.step() >> 10, INT32_MAX));
    if (lua_gc(L, LUA_GCSTEP, kilobytes) != 0) {
        memory->pressure.has_ended_cycle(std::int64_t{lua_gc(L, LUA_GCCOUNT, 0)} << 10);
    } else {
        memory->pressure.has_stepped();
    }
    return 0;
}

// () -> whether the collector ran, so that a refused request is worth another try
int collect(lua_State *L) {
    const bool running = is_running(L);
    if (running) lua_gc(L, LUA_GCCOLLECT, 0);
    lua_pushboolean(L, running ? 1 : 0);
    return 1;
}

}  // namespace

void release_buffers(Memory *memory) {
    memory->blocks.for_each([memory](void *block, std::size_t size) {
        if (memory->heap != nullptr) {
            resize_block(memory->heap, block, size, 0);
        } else {
            memory->dallocx(block, record_flags);
        }
    });
    memory->blocks.free_table(*memory);
}

void add_buffers(lua_State *L, int native) {
    lua_getfield(L, native, "functions");
    set_address(L, "buffer_resize", reinterpret_cast<void *>(resize));
    set_address(L, "buffer_release", reinterpret_cast<void *>(release));
    set_address(L, "buffer_held", reinterpret_cast<void *>(held));
    lua_settop(L, -2);
    set_function(L, native, "push_collector", push_collector);
    set_function(L, native, "collect", collect);
    lua_pushvalue(L, native);
    set_number(L, "BUFFER_DUE", due);
    set_number(L, "BUFFER_OVER_LIMIT", over_limit);
    set_number(L, "BUFFER_NO_MEMORY", no_memory);
    lua_settop(L, -2);
}

}  // namespace jemalloc_lua
