#include "pages/heap_arena.h"

#include <algorithm>

#include "policy/placement.h"
#include "system/arenas.h"
#include "system/ids.h"
#include "system/jemalloc.h"

namespace jemalloc_lua {

HeapArena::HeapArena(const Options &options, bool lays_out_blocks, unsigned first)
    : placement_{first},
      arena_(first),
      dirty_decay_ms_(options.dirty_decay_ms),
      muzzy_decay_ms_(options.muzzy_decay_ms) {
    switch (options.arena) {
        case JEMALLOC_LUA_ARENA_THREAD:
            thread_arena_ = true;
            share_arena(own_ids, thread_arena());
            break;
        case JEMALLOC_LUA_ARENA_OWN:
            if (const auto index = own_arena(dirty_decay_ms_, muzzy_decay_ms_)) {
                arena_ = *index;
                placement_.owns = placement_.owns_all = true;
                break;
            }
            placement_.fallbacks |= JEMALLOC_LUA_FALLBACK_ARENA;
            break;
        case JEMALLOC_LUA_ARENA_AUTO:
            threshold_ = policy::migration_threshold(options.arena_threshold, lays_out_blocks);
            placement_.may_migrate = true;
            break;
        case JEMALLOC_LUA_ARENA_SHARED:
            break;
        default:
            arena_ = static_cast<unsigned>(options.arena);
            share_arena(own_ids, arena_);
            break;
    }
    thread_tcache_ = lays_out_blocks && options.tcache == JEMALLOC_LUA_TCACHE_THREAD;
    if (lays_out_blocks && options.tcache == JEMALLOC_LUA_TCACHE_OWN) {
        has_tcache_ = create_tcache(own_ids, Ids::heap, &tcache_) == 0;
        if (!has_tcache_) placement_.fallbacks |= JEMALLOC_LUA_FALLBACK_TCACHE;
    }
    set_flags();
}

HeapArena::~HeapArena() {
    if (has_tcache_) destroy_tcache(own_ids, tcache_);  // before its arena: it may hold blocks of it
    if (placement_.owns) recycle_arena(arena_);
}

unsigned HeapArena::index() const {
    return thread_arena_ ? thread_arena() : arena_;
}

[[gnu::noinline]] bool HeapArena::migrate(std::size_t held) {
    threshold_ = SIZE_MAX;
    placement_.may_migrate = false;
    const auto index = own_arena(dirty_decay_ms_, muzzy_decay_ms_);
    if (!index) {
        placement_.fallbacks |= JEMALLOC_LUA_FALLBACK_ARENA;
        return false;
    }
    arena_ = *index;
    active_pages_ = {};
    placement_.owns = true;
    left_on_first_ = held;
    set_flags();
    stayed_ = purge_arena(placement_.first);
    return true;
}

void HeapArena::freed_on_first(std::size_t bytes) {
    left_on_first_ -= std::min(left_on_first_, bytes);
    dirty_on_first_ += bytes;
    if (dirty_on_first_ < policy::max_dirty_on_first_arena) return;
    dirty_on_first_ = 0;
    purge_arena(placement_.first);
}

std::size_t HeapArena::bytes_on_first(std::size_t held) const {
    if (placement_.owns) return left_on_first_;
    return arena_ == placement_.first && !thread_arena_ ? held : 0;
}

void HeapArena::purge(bool flush_tcache_first) {
    if (flush_tcache_first && has_tcache_) flush_tcache(own_ids, tcache_);
    stayed_ = purge_arena(index());
}

std::size_t HeapArena::trim() {
    if (has_tcache_) flush_tcache(own_ids, tcache_);
    const std::size_t before = dirty_bytes(index());
    stayed_ = purge_arena(index());
    const std::size_t after = dirty_bytes(index());
    const std::size_t bytes = before > after ? before - after : 0;
    return bytes - std::min(bytes, stayed_);
}

std::size_t HeapArena::active() const {
    if (!placement_.owns) return 0;
    if (active_pages_.count == nullptr) active_pages_ = active_pages(arena_);
    return active_pages_.count == nullptr ? 0 : *active_pages_.count * active_pages_.size;
}

void HeapArena::set_flags() {
    free_flags_ = 0;
    if (has_tcache_) {
        free_flags_ = je::tcache_flag(tcache_);
    } else if (!thread_tcache_) {
        free_flags_ = je::no_tcache_flag;
    }
    flags_ = free_flags_ | (thread_arena_ ? 0 : je::arena_flag(arena_));
}

}  // namespace jemalloc_lua
