#include "blocks/large.h"

#include "blocks/hardened.h"
#include "blocks/plain.h"
#include "policy/retention.h"

namespace jemalloc_lua {

// ---- Kept blocks

template <class Links>
void *LargeBlocks<Links>::take_kept(std::size_t size) {
    Block *&list = kept_[kept_class(size)];
    Block *block = list;
    if (block == nullptr) return nullptr;
    list = links_.next(block);
    const bool in_nursery = nursery_.contains(block);
    links_.on_reuse(block, size, in_nursery);
    if (!in_nursery) {
        --kept_blocks_;
        kept_bytes_ -= extent_size(size);
    }
    return block;
}

template <class Links>
void LargeBlocks<Links>::keep(void *ptr, std::size_t bytes, bool in_nursery) {
    if (!in_nursery) {
        ++kept_blocks_;
        kept_bytes_ += bytes;
    }
    links_.on_keep(ptr, in_nursery);
    auto *block = static_cast<Block *>(ptr);
    Block *&list = kept_[kept_class(bytes)];
    links_.link(block, list);
    list = block;
}

// Blocks of the nursery that were freed as small ones, and are not. The state's block has no class, and ends
// with the heap.
template <class Links>
void LargeBlocks<Links>::keep_aside() {
    while (Block *block = nursery_.take_aside()) {
        const std::size_t bytes = nursery_.size_at(block);
        if (is_kept_size(bytes) && extent_size(bytes) == bytes) keep(block, bytes, true);
    }
}

template <class Links>
void LargeBlocks<Links>::release_kept(std::size_t bytes) {
    std::size_t released = 0;
    for (std::size_t at = kept_.size(); at-- > 0;) {
        // Small ones share pages with others of jemalloc's: each that stays would hold several pages.
        const bool shares_pages = at < kept_class(std::size_t{16} << 10);
        Block *&list = kept_[at];
        Block *of_nursery = nullptr;
        while (list != nullptr && (shares_pages || released < bytes)) {
            Block *block = list;
            list = links_.next(block);
            if (nursery_.contains(block)) {
                links_.link(block, of_nursery);
                of_nursery = block;
                continue;
            }
            const std::size_t given = pages_.map().find(block)->bytes();
            --kept_blocks_;
            kept_bytes_ -= given;
            released += given;
            links_.verify_map();
            pages_.give(block);
        }
        while (Block *block = of_nursery) {
            of_nursery = links_.next(block);
            links_.link(block, list);
            list = block;
        }
    }
}

// ---- Requests

template <class Links>
[[gnu::noinline]] void *LargeBlocks<Links>::alloc(std::size_t size) {
    if (size > PTRDIFF_MAX) {
        pages_.budget().refuse();
        return nullptr;
    }
    ++requests_;
    if (may_be_kept(extent_size(size))) {
        if constexpr (Links::knows_sizes) keep_aside();
        if (void *ptr = take_kept(size)) return ptr;
    }
    if (size <= max_in_nursery) {
        if (void *ptr = nursery_.take(extent_size(size))) {
            links_.on_new_kept(ptr, size);
            return ptr;
        }
    }
    links_.verify_map();
    return pages_.take_block(size);
}

template <class Links>
[[gnu::noinline]] void LargeBlocks<Links>::free(void *ptr, std::size_t bytes) {
    const bool in_nursery = nursery_.contains(ptr);
    if (in_nursery) {
        if (is_kept_size(bytes)) keep(ptr, bytes, true);
        return;
    }
    if (is_kept_size(bytes) && policy::may_keep(kept_bytes_, bytes, pages_.budget().counts().own())) {
        return keep(ptr, bytes, false);
    }
    links_.verify_map();
    pages_.give(ptr);
    pages_.after_free();
}

template <class Links>
typename LargeBlocks<Links>::Resized LargeBlocks<Links>::resize(void *ptr, std::size_t old_size,
                                                                std::size_t new_size) {
    if (nursery_.contains(ptr)) {
        const bool same = extent_size(old_size) == extent_size(new_size);
        return {same ? Outcome::done : Outcome::elsewhere, ptr};
    }
    links_.verify_map();
    switch (pages_.resize(ptr, new_size)) {
        case Pages::InPlace::done:
            return {Outcome::done, ptr};
        case Pages::InPlace::refused:
            return {Outcome::refused, nullptr};
        case Pages::InPlace::impossible:
            break;
    }
    const std::size_t old_bytes = pages_.map().find(ptr)->bytes();
    if (!pages_.settings().is_huge(old_bytes) || extent_size(new_size) <= old_bytes) {
        return {Outcome::elsewhere, ptr};
    }
    void *moved = pages_.move(ptr, old_size, new_size);
    return {moved != nullptr ? Outcome::done : Outcome::refused, moved};
}

template <class Links>
bool LargeBlocks<Links>::stay(void *ptr, std::size_t new_size) {
    const bool in_nursery = nursery_.contains(ptr);
    if (!Links::knows_sizes && small_.serves(new_size) && !in_nursery) return false;
    if (!pages_.budget().counts().has_refused()) pages_.budget().refuse();
    links_.on_shrink(ptr, new_size, !in_nursery);
    return true;
}

template class LargeBlocks<Plain>;
template class LargeBlocks<Hardened>;

}  // namespace jemalloc_lua
