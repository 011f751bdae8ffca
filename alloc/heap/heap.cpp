// Limits and arenas, off the allocation path.

#include "heap/heap.h"

#include <algorithm>

#include "check/memcheck.h"
#include "observe/live_file.h"

namespace jemalloc_lua {

// ---- Account

namespace {

// How fast the collector of a state runs while its heap is over the soft limit, in percent of the speed of
// allocation (LuaJIT's default is 200). A cycle marks what lives and sweeps what the heap holds, so it must
// come round within the fifth of the limit that is left.
constexpr int pushed_stepmul = 1600;

// Between the soft limit and the hard one the collector is started anew this often.
constexpr std::size_t pushes_to_limit = 8;
constexpr std::size_t min_push_step = std::size_t{64} << 10;

// A heap at its limit is settled after it has asked for this much: so far may its resident memory pass the
// limit before.
constexpr std::size_t min_room = std::size_t{256} << 10;

// Heaps whose blocks are regions leave gaps between them, which in a shared arena can't be counted.
constexpr std::size_t max_region_threshold = std::size_t{1} << 20;

// What may lie unused where a heap was before it took an arena of its own.
constexpr std::size_t behind_step = std::size_t{512} << 10;

}  // namespace

void Account::set_limits(std::size_t limit, std::size_t soft_limit) {
    if (pushing_) {
        next_push_ = SIZE_MAX;
        soft_limit_ = SIZE_MAX;
        relax();
    }
    limit_ = limit == 0 ? SIZE_MAX : limit;
    soft_limit_ = soft_limit == 0 ? SIZE_MAX : soft_limit;
    next_push_ = soft_limit_;
    room_ = limit_ == SIZE_MAX ? SIZE_MAX : 0;
    set_marks();
    show();
}

void Account::settle(std::size_t pages, std::size_t bytes) {
    const std::size_t blocks = footprint_ - gaps_ - elsewhere_;
    // Up to the limit: at the limit nothing more is handed out, and that is all that gaps can bring about.
    const std::size_t held = std::min(limit_ == SIZE_MAX ? 0 : limit_ - std::min(limit_, elsewhere_), pages);
    const std::size_t before = gaps_;
    gaps_ = held > blocks ? held - blocks : 0;
    if (gaps_ > before) {
        force(gaps_ - before);
    } else {
        give(before - gaps_);
    }
    room_ = limit_ == SIZE_MAX ? SIZE_MAX : std::max(limit_ - std::min(limit_, footprint_ + bytes), min_room);
}

void Account::set_marks() {
    watermark_ = std::min({limit_, next_push_, shown_high_});
    low_watermark_ = pushing_ ? SIZE_MAX : shown_low_;
}

std::size_t Account::push_step() const {
    const bool open = limit_ == SIZE_MAX || limit_ < soft_limit_;
    const std::size_t room = open ? soft_limit_ / 4 : limit_ - soft_limit_;
    return std::max(room / pushes_to_limit, min_push_step);
}

bool Account::take_above(std::size_t bytes) {
    const bool refused = bytes > limit_ || footprint_ > limit_ - bytes;
    if (refused) ++refusals_;
    if (state_ != nullptr && (refused || footprint_ + bytes > next_push_)) push();
    if (!refused) force(bytes);
    if (refused || footprint_ > shown_high_) show();
    return !refused;
}

void Account::below_watermark() {
    if (pushing_) relax();
    if (footprint_ < shown_low_) show();
}

void Account::show_in_file(const jemalloc_lua_heap *heap) {
    shown_ = heap;
    shown_low_ = 0;
    shown_high_ = SIZE_MAX;
    set_marks();
    show();
}

// Next when the footprint has moved by 16 KiB and by one part in 256.
void Account::show_now() {
    const std::size_t step = std::max(footprint_ >> 8, std::size_t{16} << 10);
    shown_low_ = footprint_ - std::min(footprint_, step);
    shown_high_ = footprint_ + step;
    set_marks();
    live_file::changed(*const_cast<Heap *>(shown_));
}

// Both calls of lua_gc() only set a field of LuaJIT's global state, so they may be made from inside the
// allocator: the collector starts at its next check (lj_api.c, LUA_GCRESTART and LUA_GCSETSTEPMUL).
void Account::push() {
    // A collector that the host or the script has stopped stays stopped; so does one in a finalizer, where
    // LuaJIT stops it.
    if (lua_gc(state_, LUA_GCISRUNNING, 0) == 0) {
        next_push_ = footprint_ + push_step();
        return set_marks();
    }
    ++pushes_;
    lua_gc(state_, LUA_GCRESTART, 0);
    if (!pushing_) {
        pushing_ = true;
        calm_stepmul_ = lua_gc(state_, LUA_GCSETSTEPMUL, pushed_stepmul);
    }
    next_push_ = footprint_ + push_step();
    set_marks();
}

// The footprint falls: the next push comes closer, and below the soft limit the collector is let go.
void Account::relax() {
    next_push_ = std::min(next_push_, footprint_ + push_step());
    if (footprint_ <= soft_limit_) {
        pushing_ = false;
        next_push_ = soft_limit_;
        // A script that set another speed meanwhile keeps it.
        const int now = lua_gc(state_, LUA_GCSETSTEPMUL, calm_stepmul_);
        if (now != pushed_stepmul) lua_gc(state_, LUA_GCSETSTEPMUL, now);
    }
    set_marks();
}

void Account::count(jemalloc_lua_stats *stats) const {
    stats->footprint = footprint_;
    stats->peak = peak();
    stats->limit = limit_ == SIZE_MAX ? 0 : limit_;
    stats->soft_limit = soft_limit_ == SIZE_MAX ? 0 : soft_limit_;
    stats->refusals = refusals_;
    stats->gc_pushes = pushes_;
}

// ---- Source

Source::Source(const Options &options, bool with_tcache, unsigned home)
    : home_(home),
      arena_(home),
      dirty_decay_ms_(options.dirty_decay_ms),
      muzzy_decay_ms_(options.muzzy_decay_ms) {
    switch (options.arena) {
        case JEMALLOC_LUA_ARENA_THREAD:
            thread_arena_ = true;
            break;
        case JEMALLOC_LUA_ARENA_OWN:
            if (const auto index = own_arena(dirty_decay_ms_, muzzy_decay_ms_)) {
                arena_ = *index;
                own_ = own_from_start_ = true;
                break;
            }
            fallbacks_ |= JEMALLOC_LUA_FALLBACK_ARENA;
            break;
        case JEMALLOC_LUA_ARENA_AUTO:
            threshold_ = with_tcache ? std::min(options.arena_threshold, max_region_threshold)
                                     : options.arena_threshold;
            break;
        case JEMALLOC_LUA_ARENA_SHARED:
            break;
        default:
            arena_ = static_cast<unsigned>(options.arena);
            break;
    }
    thread_tcache_ = with_tcache && options.tcache == JEMALLOC_LUA_TCACHE_THREAD;
    if (with_tcache && options.tcache == JEMALLOC_LUA_TCACHE_OWN) {
        if (const auto id = create_tcache()) {
            tcache_ = *id;
            has_tcache_ = true;
        } else {
            fallbacks_ |= JEMALLOC_LUA_FALLBACK_TCACHE;
        }
    }
    set_flags();
}

Source::~Source() {
    if (has_tcache_) destroy_tcache(tcache_);  // before its arena: it may hold blocks of it
    if (own_) recycle_arena(arena_);
}

unsigned Source::arena() const {
    return thread_arena_ ? jemalloc_lua::thread_arena() : arena_;
}

std::size_t Source::trim() const {
    flush();
    const std::size_t before = unused_bytes(arena());
    purge();
    const std::size_t after = unused_bytes(arena());
    return before > after ? before - after : 0;
}

[[gnu::noinline]] bool Source::leave_shared(std::size_t footprint) {
    threshold_ = SIZE_MAX;
    const auto index = own_arena(dirty_decay_ms_, muzzy_decay_ms_);
    if (!index) {
        fallbacks_ |= JEMALLOC_LUA_FALLBACK_ARENA;
        return false;
    }
    arena_ = *index;
    own_ = true;
    left_behind_ = footprint;
    set_flags();
    purge_arena(home_);
    return true;
}

void Source::give_behind(std::size_t bytes) {
    left_behind_ -= std::min(left_behind_, bytes);
    behind_unused_ += bytes;
    if (behind_unused_ < behind_step) return;
    behind_unused_ = 0;
    purge_arena(home_);
}

void Source::set_flags() {
    free_flags_ = 0;
    if (has_tcache_) {
        free_flags_ = je::tcache_flag(tcache_);
    } else if (!thread_tcache_) {
        free_flags_ = je::no_tcache_flag;
    }
    alloc_flags_ = free_flags_ | (thread_arena_ ? 0 : je::arena_flag(arena_));
}

// ---- Regions

// What is unused goes to the system first: the pages of the heap are then those that its blocks are in. In an
// arena that others share there is no telling whose pages are whose, and purging it at every turn would be
// at the others' cost.
[[gnu::noinline]] void settle(Heap *heap, std::size_t bytes) {
    const bool own = heap->source.owns_arena();
    if (own || heap->account.must_purge(bytes, heap->released)) {
        heap->source.flush();
        heap->source.purge();
        heap->released = 0;
    }
    heap->account.settle(heap->source.pages(), bytes);
}

// ---- Memory that is not the heap's, but counts as its own

bool charge(Heap *heap, std::size_t bytes) {
    if (!heap->account.has_room(bytes)) [[unlikely]] {
        const memcheck::Quiet quiet;
        heap->front->trim(heap);
        settle(heap, bytes);
    }
    const bool held = heap->account.take_elsewhere(bytes);
    if (!held) heap->account.count_refusal();
    return held;
}

void uncharge(Heap *heap, std::size_t bytes) {
    heap->account.give_elsewhere(bytes);
}

std::size_t room_of(const Heap *heap) {
    const std::size_t limit = heap->account.limit();
    return limit == SIZE_MAX ? SIZE_MAX : limit - std::min(limit, heap->account.footprint());
}

// ---- The end

void end_with_state(Heap *heap) {
    if (heap->ended != nullptr) *heap->ended = true;
    heap->account.detach();
    live_file::ended(*heap);
    heap->front->destroy(heap);
}

}  // namespace jemalloc_lua
