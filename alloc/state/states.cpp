// Lua states on heaps: how they are made, found again from a lua_State *, and closed.

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "check/memcheck.h"
#include "heap/heap.h"
#include "observe/live_file.h"
#include "state/extras.h"
#include "state/inside.h"
#include "state/watch.h"
#include "system/low_addresses.h"

namespace jemalloc_lua {

namespace {

const FrontEnd &front_of(const Options &options) {
    switch (options.front) {
        case JEMALLOC_LUA_FRONT_SLAB:
            if (options.harden != 0) return options.scrub != 0 ? slab_harden_scrub_front : slab_harden_front;
            return options.scrub != 0 ? slab_scrub_front : slab_front;
        case JEMALLOC_LUA_FRONT_CHECKED:
            return checked_front;
        default:
            return direct_front;
    }
}

// Whether an arena is not one of ours, so that LuaJIT can't take all of its addresses.
bool is_foreign(int arena) {
    if (arena >= 0) return !arena_is_guarded(static_cast<unsigned>(arena));
    return arena == JEMALLOC_LUA_ARENA_THREAD;
}

// A heap for options that may be null; sets errno.
Heap *create_heap(const Options *given) {
    Options options = environment_options();  // read in any case: it has settings of the process as well
    if (given != nullptr && adopt_options(given, &options, nullptr, 0) != 0) {
        errno = EINVAL;
        return nullptr;
    }
    if (options.arena >= 0 && !arena_is_open(static_cast<unsigned>(options.arena))) {
        errno = EINVAL;
        return nullptr;
    }
    const bool too_high = guard_hooks() != nullptr && is_foreign(options.arena);
    if (too_high) {
        options.arena = JEMALLOC_LUA_ARENA_SHARED;
        if (options.tcache == JEMALLOC_LUA_TCACHE_THREAD) options.tcache = JEMALLOC_LUA_TCACHE_NONE;
    }
    Heap *heap = front_of(options).create(options);
    if (heap != nullptr && guard_hooks() != nullptr && !has_shared_arenas()) {
        heap->front->destroy(heap);
        heap = nullptr;
    }
    if (heap == nullptr) {
        errno = ENOMEM;
    } else if (too_high) {
        heap->source.add_fallback(JEMALLOC_LUA_FALLBACK_ARENA);
    }
    return heap;
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
// LuaJIT crashes when one of the requests 2 to 7 of lua_newstate() is refused, on any allocator:
// close_state() in lj_state.c takes the string table for made. So such a refusal does not return to it.
// lua_newstate() is left by a jump, over frames of C that hold nothing but the blocks, and those are known.

struct FirstBlocks {
    static constexpr std::size_t fragile = 7;

    struct Block {
        void *ptr;
        std::size_t size;
    };
    Block live[fragile];
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

void *create_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    auto *heap = static_cast<Heap *>(ud);
    FirstBlocks &first = *static_cast<FirstBlocks *>(heap->first_blocks);
    void *given = memcheck::entry(heap)(heap, ptr, old_size, new_size);
    if (first.requests >= FirstBlocks::fragile) return given;
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

// lua_newstate(). Null: as lua_newstate() says so, or the first blocks are given back, the heap has ended.
lua_State *new_state(Heap *heap) {
    FirstBlocks first;
    heap->first_blocks = &first;
    if (setjmp(first.out) != 0) {
        // The first of them is the state's, whose end is the heap's.
        while (first.count > 0) {
            const FirstBlocks::Block block = first.live[--first.count];
            memcheck::entry(heap)(heap, block.ptr, block.size, 0);
        }
        return nullptr;
    }
    lua_State *L = lua_newstate(create_alloc, heap);
    if (L != nullptr) lua_setallocf(L, memcheck::entry(heap), heap);
    return L;
}

lua_State *create_state(const Options *options) {
    Heap *heap = create_heap(options);
    if (heap == nullptr) return nullptr;
    bool ended = false;
    heap->owned_by_state = true;
    heap->ended = &ended;
    // The limit is held to when the state is there.
    jemalloc_lua_stats wanted{};
    heap->account.count(&wanted);
    heap->account.set_limits(0, 0);
    lua_State *L = new_state(heap);
    if (L != nullptr) {
        heap->ended = nullptr;
        heap->account.set_limits(wanted.limit, wanted.soft_limit);
        if (heap->account.footprint() > heap->account.limit()) {
            lua_close(L);
            errno = ENOMEM;
            return nullptr;
        }
        heap->account.attach(L);
        lua_atpanic(L, panic);
        for (const StateExtra *extra = state_extras; *extra != nullptr; ++extra) {
            if ((*extra)(L) == 0) continue;
            jemalloc_lua_close(L);
            errno = ENOMEM;
            return nullptr;
        }
        if (heap_begun != nullptr) heap_begun(heap);
        live_file::begun(*heap);
        return L;
    }
    // lua_newstate() has freed all (the heap has ended), or rejected the state block for its address and
    // left it to us (LuaJIT before October 2025), or got no memory, or did not even ask for any.
    bool asked = true;
    if (!ended) {
        jemalloc_lua_stats stats{};
        heap->account.count(&stats);
        asked = heap->state_block != nullptr || stats.refusals > 0;
        if (heap->state_block != nullptr) {
            heap->front->alloc(heap, heap->state_block, heap->state_block_size, 0);
        } else {
            memcheck::destroy(heap);
        }
    }
    errno = asked ? ENOMEM : ENOTSUP;
    return nullptr;
}

}  // namespace

Heap *heap_of(lua_State *L) {
    if (L == nullptr) return nullptr;
    void *ud = nullptr;
    const lua_Alloc f = lua_getallocf(L, &ud);
    for (const FrontEnd *front : {&slab_front, &slab_scrub_front, &slab_harden_front,
                                  &slab_harden_scrub_front, &direct_front, &checked_front}) {
        if (f == front->alloc || f == front->closing) return static_cast<Heap *>(ud);
    }
    return memcheck::is_entry(f) ? static_cast<Heap *>(ud) : nullptr;
}

std::size_t live_bytes(lua_State *L) {
    return (static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNT, 0)) << 10) +
           static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNTB, 0));
}

void count_heap(const Heap *heap, jemalloc_lua_stats *stats) {
    heap->account.count(stats);
    stats->purged = heap->purged;
    stats->requests = heap->requests;
    stats->arena = heap->source.arena();
    stats->fallbacks = heap->source.fallbacks();
    heap->front->count(heap, stats);
}

}  // namespace jemalloc_lua

// ---- C API

using namespace jemalloc_lua;

lua_State *jemalloc_lua_newstate(void) {
    return create_state(nullptr);
}

lua_State *jemalloc_lua_newstate_opts(const jemalloc_lua_options *options) {
    return create_state(options);
}

void jemalloc_lua_close(lua_State *L) {
    if (L == nullptr) return;
    Heap *heap = heap_of(L);
    if (heap != nullptr && heap->front->closing != nullptr &&
        lua_getallocf(L, nullptr) == heap->front->alloc) {
        lua_setallocf(L, heap->front->closing, heap);
        lua_State *state = heap->account.state();
        if (heap->source.may_own() && !heap->scrub && state != nullptr) {
            heap->sweep_cut.prepare(state, heap->state_block, heap->state_block_size);
        }
    }
    lua_close(L);
}

int jemalloc_lua_get_stats(lua_State *L, jemalloc_lua_stats *stats) {
    const Heap *heap = heap_of(L);
    if (heap == nullptr || stats == nullptr || stats->size < first_stats_size) return EINVAL;
    jemalloc_lua_stats now{};
    now.size = stats->size;
    count_heap(heap, &now);
    now.live = live_bytes(L);
    std::memset(stats, 0, now.size);
    std::memcpy(stats, &now, std::min(now.size, sizeof now));
    return 0;
}

int jemalloc_lua_set_limit(lua_State *L, std::size_t bytes) {
    Heap *heap = heap_of(L);
    if (heap == nullptr) return EINVAL;
    heap->account.set_limits(bytes, soft_limit_of(heap->soft_limit_given, bytes));
    return 0;
}

std::size_t jemalloc_lua_trim(lua_State *L) {
    Heap *heap = heap_of(L);
    if (heap == nullptr) return 0;
    const memcheck::Quiet quiet;
    const std::size_t bytes = heap->front->trim(heap);
    heap->account.show();
    return bytes;
}

int jemalloc_lua_get_arena(lua_State *L, unsigned *index) {
    const Heap *heap = heap_of(L);
    if (heap == nullptr || index == nullptr) return EINVAL;
    *index = heap->source.arena();
    return 0;
}

jemalloc_lua_heap *jemalloc_lua_heap_create(const jemalloc_lua_options *options) {
    Heap *heap = create_heap(options);
    if (heap != nullptr) live_file::begun(*heap);
    return heap;
}

void jemalloc_lua_heap_destroy(jemalloc_lua_heap *heap) {
    if (heap == nullptr) return;
    live_file::ended(*heap);
    memcheck::destroy(heap);
}

lua_Alloc jemalloc_lua_heap_alloc(jemalloc_lua_heap *heap) {
    return heap == nullptr ? nullptr : memcheck::entry(heap);
}
