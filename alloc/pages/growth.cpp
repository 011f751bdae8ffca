// How extents change their size: in place, or by moving their pages; and which of a huge block's pages are
// huge, or mapped ahead.

#include <algorithm>
#include <cstring>

#include "luajit/layout.h"
#include "pages/pages.h"
#include "policy/growth.h"
#include "system/extent_hooks.h"
#include "system/jemalloc.h"
#include "system/kernel.h"

namespace jemalloc_lua {

// ---- Huge pages
//
// A mapping keeps the advice that it was given, and jemalloc hands its memory out again, perhaps for slabs: a
// page of one slab would be a huge one. So the advice is withdrawn before an extent goes back.
//
// Huge pages are not the default: to fill a block takes 0.4 to 0.6 of the time, but several times as long
// where the kernel has to make room first, or a hypervisor has taken free memory back (bench/: thp).

bool Pages::wants_huge_pages(std::size_t bytes) const {
    return settings_.thp == JEMALLOC_LUA_THP_ALWAYS && bytes >= huge_page;
}

void Pages::advise_new(void *block, std::size_t bytes) {
    if (settings_.thp == JEMALLOC_LUA_THP_NEVER) refuse_huge_pages(block, bytes);
    if (!wants_huge_pages(bytes)) return;
    map_.find(block)->set(Extent::advised);
    advise_again(block);
}

// The extent has another mapping, or is longer.
void Pages::advise_again(void *block) {
    const Extent &extent = *map_.find(block);
    if (extent.is(Extent::advised)) want_huge_pages(block, extent.bytes());
}

// All but the first `kept` bytes go back to jemalloc.
void Pages::withdraw_advice(void *block, std::size_t kept) {
    Extent &extent = *map_.find(block);
    if (!extent.is(Extent::advised)) return;
    kept = kept / huge_page * huge_page;
    if (kept < extent.bytes()) refuse_huge_pages(static_cast<char *>(block) + kept, extent.bytes() - kept);
    if (kept == 0) extent.clear(Extent::advised);
}

// ---- Sizes

// A huge block grows by moving instead. In its place it would reach over the end of its mapping into the
// next one, and could not be moved when it grows again: mremap() takes one mapping.
Pages::InPlace Pages::resize(void *block, std::size_t new_size) {
    const std::size_t old_bytes = map_.find(block)->bytes();
    const std::size_t new_bytes = je::size_class(new_size);
    const bool grows = new_bytes > old_bytes;
    if (old_bytes == new_bytes) return InPlace::done;
    if (settings_.is_huge(old_bytes) != settings_.is_huge(new_bytes)) return InPlace::impossible;
    if (std::min(old_bytes, new_bytes) <= max_shared_extent) return InPlace::impossible;
    if (grows && settings_.is_huge(old_bytes) && kernel_moves_pages()) return InPlace::impossible;
    if (grows && !take_from_budget(new_bytes - old_bytes)) return InPlace::refused;
    if (!grows) withdraw_advice(block, new_bytes);
    const int flags = arena_.flags() | (settings_.is_huge(new_bytes) ? je::align_flag(page_size()) : 0);
    if (je::xallocx(block, new_bytes, 0, flags) != new_bytes) {
        if (grows) budget_.undo(new_bytes - old_bytes);
        return InPlace::impossible;
    }
    map_.find(block)->set_bytes(new_bytes);  // the map may have changed with what was given up for the bytes
    counts_.block_bytes += new_bytes - old_bytes;
    if (grows) advise_again(block);
    if (!grows) {
        budget_.give(old_bytes - new_bytes);
        note_dirty(*map_.find(block), old_bytes - new_bytes);
        after_free();
    }
    return InPlace::done;
}

// If the new extent seems to have its pages already, contents are copied: each page that moved away would
// cost a page fault when the system gives it again. A mistake costs time only.
void *Pages::move(void *block, std::size_t old_size, std::size_t new_size) {
    const std::size_t old_bytes = map_.find(block)->bytes();
    const std::size_t new_bytes = je::size_class(new_size);
    if (notice_bounds()) {
        const Stretched stretched = stretch_block(block, new_bytes);
        if (stretched.grown) map_ahead(stretched.block, old_size, new_size);
        if (stretched.block != nullptr) return stretched.grown ? stretched.block : nullptr;
    }
    // No page is held twice, so the difference alone is counted.
    const Taken taken = take(new_bytes, Use::growing_block, new_bytes - old_bytes);
    void *moved = taken.start;
    if (moved == nullptr) return nullptr;
    const Moved how = taken.has_memory ? Moved::nothing : move_pages(block, old_bytes, moved, new_bytes);
    if (block == nullptr) __builtin_unreachable();  // clang's analyzer takes stretched.block for it
    if (how == Moved::nothing) std::memcpy(moved, block, old_bytes);
    if (settings_.scrub && how != Moved::pages) explicit_bzero(block, old_bytes);
    if (how != Moved::nothing) advise_again(moved);
    if (!taken.has_memory) map_ahead(moved, old_size, new_size);
    release(block);
    return moved;
}

// Where address space is bounded. Null: the block can't be stretched.
Stretched Pages::stretch_block(void *block, std::size_t new_bytes) {
    const Extent before = *map_.find(block);
    const std::size_t more = new_bytes - before.bytes();
    const bool on_first = before.is(Extent::on_first);
    if (!take_from_budget(more)) return {block, false};
    const unsigned index = on_first ? arena_.placement().first : arena_.index();
    const Stretched stretched =
        stretch(block, before.bytes(), new_bytes, index, arena_.flags(), free_flags_for(before));
    if (!stretched.grown) {
        budget_.undo(more);
        if (stretched.block != nullptr) budget_.refuse();
        return stretched;
    }
    Extent extent = before;
    extent.set_bytes(new_bytes);
    if (!arena_.placement().may_migrate) extent.clear(Extent::on_first);
    map_.remove(block);
    map_.add(stretched.block, extent);
    counts_.block_bytes += more;
    if (on_first && arena_.placement().owns) arena_.freed_on_first(before.bytes());
    if (arena_.migrate_if_due(budget_.counts().own())) note_purged();
    advise_again(stretched.block);
    return stretched;
}

void Pages::map_ahead(void *block, std::size_t old_size, std::size_t new_size) {
    if (!maps_ahead_) return;
    const std::size_t bytes = policy::surely_written(old_size, new_size, luajit::is_table_part(new_size));
    populate_new(static_cast<char *>(block) + old_size, bytes);
}

}  // namespace jemalloc_lua
