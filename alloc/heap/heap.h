// What every heap is, whatever its front.
//
// The life of a heap: a front makes it; the first block that it hands out is LuaJIT's state block (GG_State),
// the last one that lua_close() frees. Where a state owns its heap (jemalloc_lua_newstate), that free is the
// heap's end, so plain lua_close() releases everything. A heap made by jemalloc_lua_heap_create() ends when
// its owner says so.
//
// A heap has one allocator function at a time, its entry: the front's, or one that does something and calls
// the one below. They stack in one fixed order. A heap without entries does not pay for them. `ud` is always
// the heap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "blocks/identity.h"
#include "heap/at_end.h"
#include "heap/front.h"
#include "heap/observer.h"
#include "luajit/collector.h"
#include "luajit/sweep_cut.h"
#include "pages/budget.h"
#include "pages/heap_arena.h"

namespace jemalloc_lua {

// From the one that is called first to the front. The entries of state/creation.cpp and state/closing.cpp
// come before these, while a state is made or closed: LuaJIT is given them, and the heap does not list them.
enum class Entry { verified, scrubbing, front };
inline constexpr std::size_t entry_count = static_cast<std::size_t>(Entry::front) + 1;

// What an entry keeps beside the heap.
class EntryMemory {
  public:
    // Frees the blocks that the entry holds back.
    virtual void flush() = 0;
    virtual std::size_t held_back() const = 0;  // bytes of those
    // The heap ends; the entry's memory goes.
    virtual void end() = 0;

  protected:
    ~EntryMemory() = default;
};

// The heap that has begun and whose state block holds this address; null if there is none. Any thread. Walks
// a list of all heaps.
Heap *heap_with(const void *address);

}  // namespace jemalloc_lua

struct jemalloc_lua_heap : private jemalloc_lua::Watcher {
  public:
    // What a state, and those who make, watch and close it, keep in its heap.
    struct State {
        jemalloc_lua::Identity identity;
        lua_State *main = nullptr;           // the main thread, once it is known
        bool owns_heap = false;              // the free of the state block ends the heap
        bool *ended = nullptr;               // set then, if there is one
        std::size_t limit_wanted = 0;        // bytes, of the options
        unsigned fallbacks = 0;              // JEMALLOC_LUA_FALLBACK_* bits besides those of the arena
        void *first_blocks = nullptr;        // of creation.cpp, while lua_newstate() runs
        void *record = nullptr;              // of the observer that keeps one for each heap
        jemalloc_lua::luajit::SweepCut cut;  // of closing.cpp, while jemalloc_lua_close() runs
        bool frees_nothing = false;          // the same: all memory goes with the heap
        jemalloc_lua::EntryMemory *verified = nullptr;  // of check/verified.cpp
        jemalloc_lua::AtEnd *at_end = nullptr;

        bool ends_with(const void *block) const { return owns_heap && block == identity.state_block; }
    };

    jemalloc_lua_heap(const jemalloc_lua::Front &front, const jemalloc_lua::Options &options,
                      bool jemalloc_lays_out_blocks, unsigned first_arena);
    jemalloc_lua_heap(const jemalloc_lua_heap &) = delete;
    jemalloc_lua_heap &operator=(const jemalloc_lua_heap &) = delete;

    const jemalloc_lua::Front &front() const { return *front_; }
    // The function that the heap's owner is to call; and the one that an entry calls.
    lua_Alloc entry() const;
    lua_Alloc below(jemalloc_lua::Entry entry) const;
    void set_entry(jemalloc_lua::Entry entry, lua_Alloc f) { entries_[static_cast<std::size_t>(entry)] = f; }

    // The state is there: its collector may be pushed.
    void attach(lua_State *L);
    // Bytes; 0: none. The soft limit follows, unless one was given in the options.
    void set_limit(std::size_t bytes);

    // All statistics but `live`, which Lua alone knows.
    jemalloc_lua_stats stats() const;
    // Releases idle memory and purges; returns the bytes.
    std::size_t trim();

    // Bytes that are held elsewhere and count here. False: the limit refuses them, after all that is idle was
    // given up. Runs no Lua and collects nothing: the caller may do that, and try again.
    bool charge(std::size_t bytes);

    // Observers hear of the heap from now on.
    void begin();
    // Observers hear of the end, then the heap and all its memory are gone.
    void end();

    jemalloc_lua::Budget &budget() { return budget_; }
    const jemalloc_lua::Budget &budget() const { return budget_; }

    State state;

    // In the list of all heaps that have begun.
    jemalloc_lua_heap *next = nullptr;
    jemalloc_lua_heap *prev = nullptr;

  protected:
    // The first block handed out is the state's.
    void note_first(void *block, std::size_t size) {
        if (state.identity.state_block != nullptr) return;
        state.identity.set_state_block(block, size);
    }

    jemalloc_lua::luajit::Collector collector_;
    jemalloc_lua::Budget budget_;
    jemalloc_lua::HeapArena arena_;
    bool scrub_;

  private:
    void changed() override;

    const jemalloc_lua::Front *front_;
    std::array<lua_Alloc, jemalloc_lua::entry_count> entries_{};
    std::size_t soft_limit_given_;
    bool has_begun_ = false;
};
