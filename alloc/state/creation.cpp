#include "state/creation.h"

#include <cerrno>
#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include "check/verified.h"
#include "heap/scrubbing.h"
#include "observe/live_file.h"
#include "state/closing.h"
#include "state/extras.h"
#include "system/arenas.h"
#include "system/mappings.h"

namespace jemalloc_lua {
namespace {

// ---- Heaps

// Whether an arena is not one of ours, so that LuaJIT can't take all of its addresses.
bool is_foreign(int arena) {
    if (arena >= 0) return !arena_is_guarded(static_cast<unsigned>(arena));
    return arena == JEMALLOC_LUA_ARENA_THREAD;
}

Heap *make_heap(const Options &options) {
    Heap *heap = front_for(options).create(options);
    if (heap == nullptr) return nullptr;
    if (options.scrub != 0) heap->set_entry(Entry::scrubbing, scrubbing_entry);
    const bool usable = !addresses_are_guarded() || has_shared_arenas();
    if (usable && verify_if_wanted(*heap, options)) return heap;
    heap->end();
    return nullptr;
}

// As in luaL_newstate() of LuaJIT (lib_aux.c).
int panic(lua_State *L) {
    const char *message = lua_tolstring(L, -1, nullptr);
    std::fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
                 message != nullptr ? message : "?");
    return 0;
}

// ---- The first requests of a state
//
// LuaJIT crashes when one of the first is refused (luajit/layout.h, fragile_requests), so such a refusal does
// not return to it. lua_newstate() is left by a jump, over frames of C that hold nothing but the blocks, and
// those are known.

struct FirstBlocks {
    struct Block {
        void *ptr;
        std::size_t size;
    };
    Block live[luajit::fragile_requests];
    std::size_t count = 0;
    std::size_t requests = 0;
    std::jmp_buf out;

    void move(const void *from, void *to, std::size_t size) {
        for (std::size_t i = 0; i < count; ++i) {
            if (live[i].ptr != from) continue;
            live[i] = {to, size};
            if (to == nullptr) live[i] = live[--count];
            return;
        }
    }
};

// lua_newstate(). Null: as lua_newstate() says so, or the first blocks are freed and the heap has ended.
lua_State *new_state(Heap *heap) {
    FirstBlocks first;
    heap->state.first_blocks = &first;
    if (setjmp(first.out) != 0) {
        // The first of them is the state's, whose end is the heap's.
        while (first.count > 0) {
            const FirstBlocks::Block block = first.live[--first.count];
            heap->entry()(heap, block.ptr, block.size, 0);
        }
        return nullptr;
    }
    lua_State *L = lua_newstate(creating_entry, heap);
    if (L != nullptr) lua_setallocf(L, heap->entry(), heap);
    return L;
}

lua_State *out_of_memory(lua_State *L) {
    close_state(L);
    errno = ENOMEM;
    return nullptr;
}

}  // namespace

void *creating_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<Heap *>(ud);
    FirstBlocks &first = *static_cast<FirstBlocks *>(heap->state.first_blocks);
    const bool is_fragile = first.requests < luajit::fragile_requests;
    void *given = heap->entry()(heap, ptr, old_size, new_size);
    if (!is_fragile) return given;
    if (new_size != 0) {
        ++first.requests;
        if (given == nullptr && first.requests > 1) std::longjmp(first.out, 1);
    }
    if (ptr != nullptr) {
        first.move(ptr, given, new_size);
    } else if (given != nullptr) {
        first.live[first.count++] = {given, new_size};
    }
    return given;
}

Heap *create_heap(const Options *given, bool limited) {
    Options options = environment_options();  // read in any case: it has settings of the process as well
    if (given != nullptr && adopt_options(given, &options, nullptr, 0) != 0) {
        errno = EINVAL;
        return nullptr;
    }
    if (options.arena >= 0 && !arena_is_open(static_cast<unsigned>(options.arena))) {
        errno = EINVAL;
        return nullptr;
    }
    const bool too_high = addresses_are_guarded() && is_foreign(options.arena);
    if (too_high) {
        options.arena = JEMALLOC_LUA_ARENA_SHARED;
        if (options.tcache == JEMALLOC_LUA_TCACHE_THREAD) options.tcache = JEMALLOC_LUA_TCACHE_NONE;
    }
    const std::size_t limit = options.limit;
    if (!limited) options.limit = 0;
    live_file::begin();
    Heap *heap = make_heap(options);
    if (heap == nullptr) {
        errno = ENOMEM;
        return nullptr;
    }
    heap->state.limit_wanted = limit;
    if (too_high) heap->state.fallbacks = JEMALLOC_LUA_FALLBACK_ARENA;
    return heap;
}

lua_State *create_state(const Options *given) {
    // The limit holds from when the state is there.
    Heap *heap = create_heap(given, false);
    if (heap == nullptr) return nullptr;
    bool ended = false;
    heap->state.owns_heap = true;
    heap->state.ended = &ended;
    lua_State *L = new_state(heap);
    if (L == nullptr) {
        // lua_newstate() has freed all (the heap has ended), or rejected the state block for its address and
        // left it to us (LuaJIT before October 2025), or got no memory, or did not even ask for any.
        bool asked = true;
        if (!ended) {
            const Identity &identity = heap->state.identity;
            asked = identity.state_block != nullptr || heap->budget().counts().has_refused();
            heap->end();
        }
        errno = asked ? ENOMEM : ENOTSUP;
        return nullptr;
    }
    heap->state.ended = nullptr;
    heap->attach(L);
    heap->set_limit(heap->state.limit_wanted);
    if (!heap->budget().has_room(0)) return out_of_memory(L);
    lua_atpanic(L, panic);
    for (const StateExtra *extra = state_extras; *extra != nullptr; ++extra) {
        if ((*extra)(L) != 0) return out_of_memory(L);
    }
    heap->begin();
    return L;
}

}  // namespace jemalloc_lua
