// The slow parts of hardening: keys, guards, tags, and the reports.

#include "blocks/hardened.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/fatal.h"
#include "system/kernel.h"

namespace jemalloc_lua {

// ---- Reports

void Hardened::report(const void *ptr, const char *format, ...) const {
    char what[160];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    fatal("harden: state %p, heap %p: block %p %s", owner_.state_block, owner_.heap, ptr, what);
}

void Hardened::report_written(const void *ptr, const char *what) const {
    report(ptr, "%s", what);
}

std::size_t Hardened::tagged_size(unsigned class_index) const {
    if (class_index < class_count) return class_size(class_index);
    if (class_index == state_class) return owner_.state_block_size;
    std::size_t size = 80;
    while (size < max_in_nursery && kept_class(size) < class_index - class_count)
        size = extent_size(size + 1);
    return size;
}

void Hardened::report_wrong(const void *ptr, std::size_t size) const {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const Extent *extent = pages_.map().find(ptr);
    if (extent != nullptr && !is_cut(*extent)) {
        if (extent->is(Extent::idle)) {
            report(ptr, "of class %zu: double free or use after free: it is free already", extent->bytes());
        }
        report(ptr, "of class %zu: wrong size: the caller says %zu bytes", extent->bytes(), size);
    }
    const Tag *tag = find_tag(ptr);
    if (tag == nullptr || at % 16 != 0 || *tag == Tag::none) {
        report(ptr, "of %zu bytes, as the caller says: not a block of this heap", size);
    }
    Slab *slab = verify(slab_of<Hardened>(ptr, mask_));
    if (*tag == Tag::free) {
        std::size_t bytes = class_size(slab->class_index);
        if (slab->state == SlabState::nursery) {
            bytes = size > max_small ? extent_size(size) : class_size(class_of(size));
        }
        report(ptr, "of class %zu: double free or use after free: it is free already", bytes);
    }
    report(ptr, "of class %zu: wrong size: the caller says %zu bytes", tagged_size(class_in(*tag)), size);
}

// ---- Set-up

Hardened::Hardened(Pages &pages, const Identity &owner, std::size_t small_max)
    : pages_(pages), owner_(owner), small_max_(small_max), mask_(~(pages.settings().slab_size - 1)) {
    std::uintptr_t keys[3];
    random_words(keys, 3);
    link_key_ = keys[0];
    seal_key_ = keys[1] | 1;
    guard_key_ = keys[2];
    pages_.map().set_key(guard_key_);
}

bool Hardened::start() {
    return pages_.reserve_entry();
}

// ---- Tags

bool Hardened::is_in_nursery(const void *ptr) const {
    const auto base = reinterpret_cast<std::uintptr_t>(ptr) & mask_;
    const Extent *extent = pages_.map().find(reinterpret_cast<void *>(base));
    return extent != nullptr && extent->is(Extent::nursery);
}

Tag *Hardened::find_tag(const void *ptr) const {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    const Extent *extent = pages_.map().find(reinterpret_cast<void *>(at & mask_));
    if (extent == nullptr || !is_cut(*extent)) return nullptr;
    return tag_at(slab_of<Hardened>(ptr, mask_), ptr);
}

// That of a block of `size` bytes in a slab or in the nursery.
Tag Hardened::expected_tag(const void *ptr, std::size_t size) const {
    if (size - 1 < small_max_) return live(class_of(size));
    if (ptr == owner_.state_block && size == owner_.state_block_size) return live(state_class);
    if (size == 0 || size > max_in_nursery) return Tag::none;
    return live(class_count + kept_class(size));
}

void Hardened::verify_live(const void *ptr, std::size_t size) const {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    if (size > small_max_ && !is_in_nursery(ptr)) {
        const Extent *extent = pages_.map().find(ptr);
        const bool is_block = extent != nullptr && !is_cut(*extent) && !extent->is(Extent::idle);
        if (!is_block || size > PTRDIFF_MAX) report_wrong(ptr, size);
        const std::size_t bytes = extent_size(size);
        const bool right =
            extent->is(Extent::understated) ? bytes <= extent->bytes() : bytes == extent->bytes();
        if (!right) report_wrong(ptr, size);
        return;
    }
    const Tag *tag = find_tag(ptr);
    if (tag != nullptr && at % 16 == 0 && is_short_closure(*tag, size)) return;
    const Tag expected = expected_tag(ptr, size);
    if (tag == nullptr || at % 16 != 0 || expected == Tag::none || *tag != expected) report_wrong(ptr, size);
}

void Hardened::on_new(const void *ptr, unsigned class_index) const {
    *find_tag(ptr) = live(class_index);
}

void Hardened::on_new_state(const void *ptr) const {
    on_new(ptr, state_class);
}

void Hardened::on_new_kept(const void *ptr, std::size_t size) const {
    on_new(ptr, class_count + kept_class(size));
}

void Hardened::on_shrink(const void *ptr, std::size_t size, bool extent) const {
    if (extent) {
        pages_.map().find(ptr)->set(Extent::understated);
    } else if (size <= small_max_) {
        on_new(ptr, class_of(size));
    } else if (ptr != owner_.state_block) {
        on_new_kept(ptr, size);
    }
}

void Hardened::on_keep(const void *ptr, bool in_nursery) const {
    if (in_nursery) {
        *find_tag(ptr) = Tag::free;
    } else {
        Extent &extent = *pages_.map().find(ptr);
        extent.set(Extent::idle);
        extent.clear(Extent::understated);
    }
}

void Hardened::on_reuse(void *ptr, std::size_t size, bool in_nursery) const {
    if (in_nursery) {
        Tag *tag = find_tag(ptr);
        if (*tag != Tag::free) report_written(ptr, "ready to be handed out although it is not free");
        *tag = live(class_count + kept_class(size));
    } else {
        Extent *extent = pages_.map().find(ptr);
        const bool right =
            extent != nullptr && extent->is(Extent::idle) && extent->bytes() == extent_size(size);
        if (!right) report_written(ptr, "ready to be handed out although it is not free");
        extent->clear(Extent::idle);
    }
    *static_cast<Sealed *>(ptr) = {};
}

void Hardened::on_format(Slab *slab) const {
    std::memset(tags_of(slab), static_cast<int>(Tag::none), ~mask_ / 16 + 1);
}

void Hardened::on_carve(Block *blocks) const {
    for (Block *block = blocks; block != nullptr;) {
        Block *next = block->next;
        link(block, next);
        *tag_at(slab_of<Hardened>(block, mask_), block) = Tag::free;
        block = next;
    }
}

// ---- Guards

void Hardened::on_slab(Slab *slab) const {
    build_guard(guard_key_, reinterpret_cast<char *>(slab) - guard_size);
    build_guard(guard_key_, rear_guard(slab));
}

void Hardened::on_piece(Slab *slab) {
    on_slab(slab);
    on_format(slab);
    const auto base = reinterpret_cast<std::uintptr_t>(slab) & mask_;
    pages_.map().add(reinterpret_cast<void *>(base), Extent(~mask_ + 1, Extent::nursery));
}

Slab *Hardened::verify(Slab *slab) const {
    if (!is_whole(guard_key_, reinterpret_cast<char *>(slab) - guard_size)) {
        report(slab, "is the header of a slab, and something ran into it from the blocks before");
    }
    if (!is_whole(guard_key_, rear_guard(slab))) {
        report(slab, "is the header of a slab, and something ran into it from the blocks after");
    }
    return slab;
}

void Hardened::verify_map() const {
    if (!pages_.map().is_whole()) {
        report(pages_.map().memory(), "is the heap's list of its blocks, and was written to from outside");
    }
}

}  // namespace jemalloc_lua
