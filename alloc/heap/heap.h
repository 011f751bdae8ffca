// What every heap is, whatever its front end.
//
// A host's lua_State *, or its `ud`, leads to a Heap. The front end is chosen once, when the heap is made:
// it is a table of functions (FrontEnd), and the lua_Alloc in it goes straight to code that knows its heap's
// layout, so no call on the allocation path asks how the heap is configured.
//
// The life of a heap: a FrontEnd makes it; the first block that it hands out is LuaJIT's state block
// (GG_State), the last that lua_close() frees. Where a state owns its heap (jemalloc_lua_newstate), that
// free is the heap's end, so plain lua_close() releases everything. A heap made by jemalloc_lua_heap_create()
// ends when its owner says so.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "system/arenas.h"
#include "system/jemalloc.h"
#include "jemalloc_lua.h"
#include "config/options.h"
#include "luajit/sweep_cut.h"

namespace jemalloc_lua {

struct FrontEnd {
    // The allocator function, and the one for a state that is being closed as a whole, whose frees may do
    // nothing; null where single frees can't be skipped.
    lua_Alloc alloc;
    lua_Alloc closing;
    jemalloc_lua_heap *(*create)(const Options &);
    // Releases the heap and all in it, the heap itself included.
    void (*destroy)(jemalloc_lua_heap *);
    // Gives unused memory back to the system; bytes.
    std::size_t (*trim)(jemalloc_lua_heap *);
    // Fills in what only the front end knows.
    void (*count)(const jemalloc_lua_heap *, jemalloc_lua_stats *);
};

extern const FrontEnd slab_front;
extern const FrontEnd slab_scrub_front;   // options.scrub
extern const FrontEnd slab_harden_front;  // options.harden
extern const FrontEnd slab_harden_scrub_front;
extern const FrontEnd direct_front;
extern const FrontEnd checked_front;

// How much LuaJIT may fall short by of a closure's size after a refusal (Account::any_refused()): what its
// references to upvalues take, of which it has 60 at most.
inline constexpr std::size_t max_upvalues_size = std::size_t{60} * 8;

// The bytes that a heap holds from jemalloc, and how many it may.
//
// Between two marks the footprint moves without being looked at. The upper one is the lowest of the hard
// limit, the next point at which the collector is pushed, and the next at which the statistics are shown
// anew (stats_file.h); the lower one serves the last two. So each change costs one comparison.
//
// Blocks that are jemalloc regions of their own leave gaps when they are freed: a page stays as long as one
// block in it is in use. What a heap with a limit holds in such gaps counts towards its footprint, as of the
// last time that it was settled.
class Account {
  public:
    // Whether `bytes` more may be held; if so they are counted. Never fails for a heap without limits.
    bool take(std::size_t bytes) {
        if (footprint_ + bytes > watermark_) [[unlikely]]
            return take_above(bytes);
        force(bytes);
        return true;
    }

    // Counts bytes that are held whatever the limit says, as when a block shrinks into a smaller one.
    void force(std::size_t bytes) { footprint_ += bytes; }

    void give(std::size_t bytes) {
        peak_ = peak();
        take_back(bytes);
    }

    // Bytes that were taken, and then there was no memory: they were never held, and make no peak.
    void take_back(std::size_t bytes) {
        footprint_ -= bytes;
        if (footprint_ < low_watermark_) [[unlikely]]
            below_watermark();
    }

    // Whether, with `bytes` more, what is held and what was given to jemalloc but not to the system would
    // come to more than the limit: a state's resident memory is to stay below it as well. Some slack, so that
    // a state that lives near its limit does not purge at every turn.
    bool must_purge(std::size_t bytes, std::size_t given) const {
        constexpr std::size_t slack = std::size_t{1} << 20;
        return given > slack && limit_ != SIZE_MAX && footprint_ + bytes + (given - slack) > limit_;
    }

    // For heaps whose blocks are regions: whether it is time to settle() before `bytes` more are held. It is
    // when they would not fit, and when so much was asked for since the last time that gaps and unpurged
    // pages may have filled what was left then.
    bool must_settle(std::size_t bytes) {
        if (bytes > room_ || footprint_ + bytes > limit_) [[unlikely]]
            return true;
        room_ -= bytes;
        return false;
    }
    // `pages`: bytes of the pages that hold the heap's blocks, where that is known; `bytes`: what is held
    // next.
    void settle(std::size_t pages, std::size_t bytes);
    // The footprint with the gaps as they are now, which may be smaller than when they were counted.
    std::size_t footprint_now(std::size_t pages) const {
        return std::min(footprint_, std::max(footprint_ - gaps_, pages + elsewhere_));
    }

    // Bytes that the heap answers for but does not hold itself: the module's buffers. They count
    // towards the limit; what the heap decides by its own memory leaves them out.
    bool take_elsewhere(std::size_t bytes) {
        if (!has_room(bytes) || !take(bytes)) return false;
        elsewhere_ += bytes;
        return true;
    }
    void give_elsewhere(std::size_t bytes) {
        elsewhere_ -= bytes;
        give(bytes);
    }
    bool has_room(std::size_t bytes) const { return bytes <= limit_ && footprint_ <= limit_ - bytes; }

    // Refuses a request for another reason than the limit: jemalloc has no memory.
    void count_refusal() {
        ++refusals_;
        show();
    }

    // Whether any request was ever refused. From then on LuaJIT may be wrong about the size of a block: a
    // closure that could not get one of its upvalues is freed as one without any (lj_func_newL_gc() in
    // lj_func.c), and a block that could not shrink is larger than Lua knows.
    bool any_refused() const { return refusals_ != 0; }

    void set_limits(std::size_t limit, std::size_t soft_limit);  // bytes, 0: none
    void attach(lua_State *L) { state_ = L; }
    // The state is gone: its collector is not to be touched any more.
    void detach() {
        state_ = nullptr;
        pushing_ = false;
        set_marks();
    }
    // Statistics of this heap, whose account this is, are in the file of live statistics; null: no more.
    void show_in_file(const jemalloc_lua_heap *heap);
    // Shows the statistics anew, where they are shown: something has changed, off the allocation path.
    void show() {
        if (shown_ != nullptr) [[unlikely]]
            show_now();
    }

    std::size_t footprint() const { return footprint_; }
    // Without what it answers for elsewhere.
    std::size_t own_footprint() const { return footprint_ - elsewhere_; }
    std::size_t peak() const { return footprint_ > peak_ ? footprint_ : peak_; }
    std::size_t limit() const { return limit_; }
    lua_State *state() const { return state_; }
    void count(jemalloc_lua_stats *stats) const;

  private:
    bool take_above(std::size_t bytes);
    void below_watermark();
    void push();
    void relax();
    void set_marks();
    void show_now();
    std::size_t push_step() const;

    std::size_t footprint_ = 0;
    std::size_t watermark_ = SIZE_MAX;
    std::size_t low_watermark_ = 0;
    std::size_t peak_ = 0;         // up to the last time that bytes were given
    std::size_t gaps_ = 0;         // of the footprint: what is no block
    std::size_t elsewhere_ = 0;    // of the footprint: buffers of the module
    std::size_t room_ = SIZE_MAX;  // bytes to ask for until settle()
    std::size_t limit_ = SIZE_MAX;
    std::size_t soft_limit_ = SIZE_MAX;
    std::size_t next_push_ = SIZE_MAX;          // soft_limit_, or above it while pushing_
    lua_State *state_ = nullptr;                // whose collector is pushed; null while it is unknown
    const jemalloc_lua_heap *shown_ = nullptr;  // whose statistics are in the file of live statistics
    std::size_t shown_low_ = 0;                 // they are shown anew below this footprint ...
    std::size_t shown_high_ = SIZE_MAX;         // ... and above this one
    bool pushing_ = false;
    int calm_stepmul_ = 0;  // the collector's speed before it was pushed
    std::uint64_t refusals_ = 0;
    std::uint64_t pushes_ = 0;
};

// The arena and tcache that a heap allocates from, and the flags that name them.
class Source {
  public:
    // Takes what the options ask for, or falls back; never fails. `with_tcache`: for a heap whose blocks are
    // regions. `home` is the arena of the heap's header; its other memory comes from there too, as long as it
    // has no arena of its own.
    Source(const Options &options, bool with_tcache, unsigned home);
    Source(const Source &) = delete;
    Source &operator=(const Source &) = delete;
    ~Source();

    // For mallocx() and rallocx(), and without the arena for sdallocx().
    int flags() const { return alloc_flags_; }
    int free_flags() const { return free_flags_; }

    // arena:auto: takes an arena of its own once the footprint has passed the threshold. True: that was now,
    // and what was unused where it began went to the system.
    bool grow(std::size_t footprint) { return footprint > threshold_ && leave_shared(footprint); }
    // So many bytes were freed there since, which this heap will not take again.
    void give_behind(std::size_t bytes);

    bool owns_arena() const { return own_; }
    // Whether it may still come to own one.
    bool may_leave() const { return threshold_ != SIZE_MAX; }
    bool may_own() const { return own_ || may_leave(); }
    unsigned home() const { return home_; }
    // What of a footprint lies there.
    std::size_t part_at_home(std::size_t footprint) const {
        if (own_) return left_behind_;
        return arena_ == home_ && !thread_arena_ ? footprint : 0;
    }
    // Whether all that was ever allocated came from the own arena, so that its reset frees everything.
    bool owned_from_start() const { return own_from_start_; }
    unsigned arena() const;
    unsigned fallbacks() const { return fallbacks_; }
    void add_fallback(unsigned bit) { fallbacks_ |= bit; }
    void purge() const { purge_arena(arena()); }
    // Bytes of the own arena's pages that hold blocks or were cached; 0 without such an arena.
    std::size_t pages() const { return own_ ? active_bytes(arena_) : 0; }
    void flush() const {
        if (has_tcache_) flush_tcache(tcache_);
    }
    // Returns what the tcache and the arena hold unused to the system; bytes.
    std::size_t trim() const;

  private:
    bool leave_shared(std::size_t footprint);
    void set_flags();

    int alloc_flags_ = 0;
    int free_flags_ = 0;
    std::size_t threshold_ = SIZE_MAX;
    std::size_t left_behind_ = 0;    // bytes at home since the own arena was taken
    std::size_t behind_unused_ = 0;  // bytes freed there since it was last purged
    unsigned home_;
    unsigned arena_;
    unsigned tcache_ = 0;
    bool own_ = false;
    bool own_from_start_ = false;
    bool has_tcache_ = false;
    bool thread_arena_ = false;
    bool thread_tcache_ = false;
    unsigned fallbacks_ = 0;
    std::intptr_t dirty_decay_ms_;
    std::intptr_t muzzy_decay_ms_;
};

}  // namespace jemalloc_lua

struct jemalloc_lua_heap {
    jemalloc_lua_heap(const jemalloc_lua::FrontEnd &front_end, const jemalloc_lua::Options &options,
                      bool with_tcache, unsigned home)
        : front(&front_end), source(options, with_tcache, home), scrub(options.scrub != 0) {
        soft_limit_given = options.soft_limit;
        account.set_limits(options.limit, jemalloc_lua::soft_limit_of(options.soft_limit, options.limit));
    }

    const jemalloc_lua::FrontEnd *front;
    jemalloc_lua::Account account;
    jemalloc_lua::Source source;
    std::size_t soft_limit_given;
    // Bytes given to jemalloc and neither purged nor taken again, as far as that can be told.
    std::size_t released = 0;
    std::uint64_t purged = 0;    // bytes given back to the system by retention and by trim
    std::uint64_t requests = 0;  // blocks handed out, or made ready to be (slab)
    void *record = nullptr;      // of observe/live_file.h
    bool scrub;

    // Set for a heap that a state owns: the free of state_block ends it, and sets *ended if there is one.
    bool owned_by_state = false;
    void *state_block = nullptr;
    std::size_t state_block_size = 0;
    bool *ended = nullptr;
    void *first_blocks = nullptr;      // of state.cpp, while lua_newstate() runs
    jemalloc_lua::SweepCut sweep_cut;  // while jemalloc_lua_close() runs

    // The first block handed out is the state's.
    void note_first(void *block, std::size_t size) {
        if (state_block != nullptr) return;
        state_block = block;
        state_block_size = size;
    }

    bool ends_with(const void *block) const { return owned_by_state && block == state_block; }
};

namespace jemalloc_lua {

using Heap = jemalloc_lua_heap;

// A heap's header in memory of its own, from a shared arena. Null when out of memory.
template <class H>
H *create_header(const Options &options) {
    const unsigned home = shared_arena();
    void *memory = je::mallocx(sizeof(H), je::align_flag(64) | je::no_tcache_flag | je::arena_flag(home));
    return memory == nullptr ? nullptr : new (memory) H(options, home);
}

template <class H>
void destroy_header(H *heap) {
    const unsigned home = heap->source.home();
    const std::size_t given = heap->source.part_at_home(heap->account.peak());
    heap->~H();
    je::sdallocx(heap, sizeof(H), je::align_flag(64) | je::no_tcache_flag);
    if (given != 0) shared_given(home, 0, given);
}

// Whether `bytes` more may be held, for a heap whose blocks are regions; if so they are counted.
void settle(Heap *heap, std::size_t bytes);
inline bool take_region(Heap *heap, std::size_t bytes) {
    if (heap->account.must_settle(bytes)) [[unlikely]]
        settle(heap, bytes);
    return heap->account.take(bytes);
}

// The heap's end by the free of its state block.
void end_with_state(Heap *heap);

}  // namespace jemalloc_lua
