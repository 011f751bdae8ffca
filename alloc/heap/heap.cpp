#include "heap/heap.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/list.h"
#include "base/process.h"
#include "system/extent_hooks.h"

namespace jemalloc_lua {
namespace {

std::atomic<Observer *> observers{nullptr};

List<Heap> heaps;  // that have begun; process_lock guards it

void tell(void (*Observer::*what)(Heap &), Heap &heap) {
    for (Observer *each = observers.load(std::memory_order_acquire); each != nullptr; each = each->next) {
        if (each->*what != nullptr) (each->*what)(heap);
    }
}

}  // namespace

void add_observer(Observer &observer) {
    observer.next = observers.load(std::memory_order_relaxed);
    while (!observers.compare_exchange_weak(observer.next, &observer, std::memory_order_release)) {
    }
}

Heap *heap_with(const void *address) {
    const std::lock_guard lock(process_lock);
    Heap *heap = heaps.first;
    while (heap != nullptr && !heap->state.identity.holds(address)) heap = heap->next;
    return heap;
}

}  // namespace jemalloc_lua

using namespace jemalloc_lua;

jemalloc_lua_heap::jemalloc_lua_heap(const Front &front, const Options &options,
                                     bool jemalloc_lays_out_blocks, unsigned first_arena)
    : budget_(collector_),
      arena_(options, jemalloc_lays_out_blocks, first_arena),
      scrub_(options.scrub != 0),
      front_(&front),
      soft_limit_given_(options.soft_limit) {
    state.identity.heap = this;
    set_entry(Entry::front, front.alloc);
    budget_.set_limits(options.limit, soft_limit_of(options.soft_limit, options.limit));
}

lua_Alloc jemalloc_lua_heap::entry() const {
    for (const lua_Alloc f : entries_) {
        if (f != nullptr) return f;
    }
    return nullptr;
}

lua_Alloc jemalloc_lua_heap::below(Entry entry) const {
    std::size_t at = static_cast<std::size_t>(entry) + 1;
    while (entries_[at] == nullptr) ++at;
    return entries_[at];
}

void jemalloc_lua_heap::attach(lua_State *L) {
    state.main = L;
    collector_.attach(L);
}

void jemalloc_lua_heap::set_limit(std::size_t bytes) {
    budget_.set_limits(bytes, soft_limit_of(soft_limit_given_, bytes));
    front_->limit_changed(*this);
}

jemalloc_lua_stats jemalloc_lua_heap::stats() const {
    const Budget::Counts &counts = budget_.counts();
    const auto or_none = [](std::size_t limit) { return limit == SIZE_MAX ? 0 : limit; };
    jemalloc_lua_stats stats{};
    stats.size = sizeof stats;
    stats.footprint = counts.held;
    stats.peak = std::max(counts.peak, counts.held);
    stats.limit = or_none(counts.limit);
    stats.soft_limit = or_none(counts.soft_limit);
    stats.refusals = counts.refusals;
    stats.gc_pushes = collector_.pushes();
    stats.arena = arena_.index();
    stats.fallbacks = arena_.placement().fallbacks | state.fallbacks;
    stats.requests = front_->requests(*this);
    stats.way_back = static_cast<unsigned>(way_back());
    front_->count(*this, stats);
    if (state.verified != nullptr) {
        stats.cached_bytes += state.verified->held_back();
        if (front_ == &direct_front) stats.front = JEMALLOC_LUA_FRONT_CHECKED;
    }
    return stats;
}

std::size_t jemalloc_lua_heap::trim() {
    if (state.verified != nullptr) state.verified->flush();
    const std::size_t bytes = front_->trim(*this);
    budget_.publish();
    return bytes;
}

bool jemalloc_lua_heap::charge(std::size_t bytes) {
    if (!budget_.has_room(bytes)) [[unlikely]]
        trim();
    return budget_.charge(bytes);
}

void jemalloc_lua_heap::changed() {
    tell(&Observer::changed, *this);
}

void jemalloc_lua_heap::begin() {
    has_begun_ = true;
    {
        const std::lock_guard lock(process_lock);
        heaps.push_back(this);
    }
    tell(&Observer::begun, *this);
    if (observers.load(std::memory_order_acquire) != nullptr) budget_.watch(this);
}

void jemalloc_lua_heap::end() {
    if (state.ended != nullptr) *state.ended = true;
    attach(nullptr);
    budget_.watch(nullptr);
    if (has_begun_) {
        tell(&Observer::ended, *this);
        const std::lock_guard lock(process_lock);
        heaps.remove(this);
    }
    run_all(state.at_end);
    if (state.verified != nullptr) state.verified->end();
    front_->destroy(*this);
}
