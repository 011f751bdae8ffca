#include "pages/pages.h"

#include <algorithm>
#include <cstring>

#include "policy/growth.h"
#include "system/jemalloc.h"
#include "system/kernel.h"

namespace jemalloc_lua {

Pages::Pages(Budget &budget, HeapArena &arena, const Options &options, IdleExtents &idle)
    : settings_{options.slab, options.huge_min, options.retain, options.thp, options.scrub != 0},
      budget_(budget),
      arena_(arena),
      idle_(idle),
      dirty_(je::max_fit_lg),
      purge_meter_(options.retain) {}

// ---- The budget

bool Pages::take_from_budget(std::size_t bytes) {
    if (unlimited_) {
        budget_.take_always(bytes);
        return true;
    }
    if (!budget_.has_room(bytes)) release_idle();
    const Budget::Counts &counts = budget_.counts();
    if (policy::purge_for_limit(counts.held, dirty_.bytes(), bytes, counts.limit)) purge();
    return budget_.take(bytes);
}

bool Pages::take_bytes(std::size_t bytes) {
    return (unlimited_ || budget_.has_room(bytes)) && take_from_budget(bytes);
}

// ---- The map

bool Pages::reserve_entry() {
    if (!map_.is_full()) [[likely]]
        return true;
    const std::size_t wanted = map_.wanted_capacity();
    const std::size_t bytes = ExtentMap::bytes_of(wanted);
    if (!take_from_budget(bytes)) return false;
    if (!map_.is_full()) {  // idle extents were given up for the bytes
        budget_.undo(bytes);
        return true;
    }
    const std::size_t before = ExtentMap::bytes_of(map_.capacity());
    if (!map_.resize(wanted, arena_.flags())) {
        budget_.undo(bytes);
        budget_.refuse();
        return false;
    }
    budget_.give(before);
    return true;
}

// The table falls with what it holds. Without memory for a smaller one, it stays.
void Pages::fit_map() {
    const std::size_t before = map_.capacity();
    const std::size_t wanted = map_.wanted_capacity();
    if (wanted >= before || !map_.resize(wanted, arena_.flags())) return;
    budget_.give(ExtentMap::bytes_of(before) - ExtentMap::bytes_of(wanted));
}

// ---- Taken

int Pages::flags_for(std::size_t bytes, Use use) const {
    std::size_t alignment = 1;
    if (use == Use::slab) {
        alignment = settings_.slab_size;
    } else if (settings_.is_huge(bytes)) {
        const bool starts_a_table =
            (use == Use::growing_block && bytes >= policy::min_aligned_growth) || wants_huge_pages(bytes);
        alignment = starts_a_table ? huge_page : page_size();
    }
    return arena_.flags() | je::align_flag(alignment);
}

int Pages::free_flags_for(const Extent &extent) const {
    std::size_t alignment = 1;
    if (extent.is(Extent::slab)) {
        alignment = settings_.slab_size;
    } else if (settings_.is_huge(extent.bytes())) {
        alignment = page_size();
    }
    return je::no_tcache_flag | je::align_flag(alignment);
}

Pages::Taken Pages::take(std::size_t bytes, Use use, std::size_t counted) {
    // What is idle makes no new peak.
    if (budget_.would_be_peak(counted) && idle_.idle_bytes() != 0) idle_.release_idle(counted);
    if (!reserve_entry() || !take_from_budget(counted)) return {nullptr, false};
    if (use != Use::slab && arena_.placement().may_own() && policy::purge_for_size(dirty_.bytes(), bytes)) {
        purge();
    }
    void *start = je::mallocx(bytes, flags_for(bytes, use));
    if (start == nullptr) {
        budget_.undo(counted);
        release_idle();
        start = je::mallocx(bytes, flags_for(bytes, use));
        if (start == nullptr) {
            if (use != Use::slab) budget_.refuse();
            return {nullptr, false};
        }
        budget_.take_always(counted);
    }
    Extent extent(bytes, 0);
    if (use == Use::slab) extent.set(Extent::slab);
    if (arena_.placement().may_migrate) extent.set(Extent::on_first);
    map_.add(start, extent);
    if (use == Use::slab) {
        ++counts_.slabs;
    } else {
        ++counts_.blocks;
        counts_.block_bytes += bytes;
    }
    const bool has_memory = dirty_.taken(bytes);
    if (arena_.migrate_if_due(budget_.counts().own())) note_purged();
    if (use != Use::slab && settings_.is_huge(bytes)) advise_new(start, bytes);
    return {start, has_memory};
}

void *Pages::take_slab() {
    return take(settings_.slab_size, Use::slab, settings_.slab_size).start;
}

void *Pages::take_block(std::size_t size) {
    const std::size_t bytes = je::size_class(size);
    const Taken block = take(bytes, Use::block, bytes);
    if (block.start != nullptr && !block.has_memory && settings_.is_huge(bytes))
        map_ahead(block.start, 0, size);
    return block.start;
}

// ---- Given

void Pages::release(void *start) {
    withdraw_advice(start, 0);
    const Extent extent = *map_.find(start);
    const std::size_t bytes = extent.bytes();
    if (extent.is(Extent::slab)) {
        if (settings_.scrub) explicit_bzero(start, bytes);
        --counts_.slabs;
    } else {
        --counts_.blocks;
        counts_.block_bytes -= bytes;
    }
    je::sdallocx(start, bytes, free_flags_for(extent));
    map_.remove(start);
    fit_map();
    note_dirty(extent, bytes);
}

void Pages::note_dirty(const Extent &extent, std::size_t bytes) {
    if (extent.is(Extent::on_first) && arena_.placement().owns) {
        arena_.freed_on_first(bytes);
    } else {
        dirty_.released(bytes);
    }
}

void Pages::give(void *start) {
    const std::size_t bytes = map_.find(start)->bytes();
    release(start);
    budget_.give(bytes);
}

// ---- Idle, and purged

// What the system has not taken is jemalloc's to hand out again, but it has not gone.
std::size_t Pages::note_purged() {
    const std::size_t bytes = dirty_.purged();
    const std::size_t gone = bytes - std::min(bytes, arena_.stayed());
    counts_.purged += gone;
    return gone;
}

std::size_t Pages::purge() {
    arena_.purge();
    return note_purged();
}

void Pages::release_idle() {
    idle_.release_idle(SIZE_MAX);
}

void Pages::after_free() {
    for (;;) {
        const std::size_t idle = idle_.idle_bytes();
        const policy::PageUse use{budget_.counts().own() - idle, idle, dirty_.bytes()};
        const policy::Verdict verdict = policy::after_free(use, settings_.retain);
        if (verdict.release == 0) {
            if (verdict.purge && arena_.placement().may_own() &&
                purge_meter_.pays(budget_.counts().own(), use.dirty)) {
                purge();
            }
            return;
        }
        idle_.release_idle(verdict.release);
    }
}

std::size_t Pages::trim() {
    const std::size_t before = budget_.counts().held;
    release_idle();
    if (map_.is_empty() && map_.capacity() != 0) {
        budget_.give(ExtentMap::bytes_of(map_.capacity()));
        map_.resize(0, 0);
    }
    const std::size_t released = before - budget_.counts().held;
    const std::size_t gone = purge();
    return std::max(released - std::min(released, arena_.stayed()), gone);
}

void Pages::release_all() {
    const bool arena_goes = arena_.placement().owns;
    map_.for_each([&](void *start, Extent &extent) {
        if (extent.is(Extent::nursery)) return;
        withdraw_advice(start, 0);
        if (settings_.scrub) explicit_bzero(start, extent.bytes());
        if (arena_goes && !extent.is(Extent::on_first)) return;
        je::sdallocx(start, extent.bytes(), free_flags_for(extent));
    });
}

}  // namespace jemalloc_lua
