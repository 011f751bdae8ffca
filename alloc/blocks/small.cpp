#include "blocks/small.h"

#include <algorithm>
#include <cassert>
#include <new>

#include "blocks/hardened.h"
#include "blocks/plain.h"

namespace jemalloc_lua {
namespace {

// A slab's fresh memory is made into blocks by about a page at a time, so that no page is touched before it
// is needed.
constexpr std::size_t carve_bytes = 4096;

constexpr std::size_t cache_line = 64;

}  // namespace

// ---- Blocks of a slab

template <class Links>
std::uint32_t SmallBlocks<Links>::fresh_bytes(const Slab *slab) const {
    const std::uintptr_t base = base_of(slab);
    const std::uintptr_t floor = slab->is_above ? header_end<Links>(slab_size(), base) - base : 0;
    return slab->fresh - static_cast<std::uint32_t>(floor);
}

// Makes the next blocks of the fresh memory, downwards, and returns them as a list; null when there is no
// more. LuaJIT puts each new object in front of its list of all objects, so its sweep, from the newest to
// the oldest, then walks upwards through memory.
template <class Links>
Block *SmallBlocks<Links>::carve(Slab *slab) {
    const auto size = static_cast<std::uint32_t>(class_size(slab->class_index));
    const std::uintptr_t base = base_of(slab);
    if (slab->is_above && fresh_bytes(slab) < size) {
        slab->fresh = static_cast<std::uint32_t>(header_start(base) - base);
        slab->is_above = false;
    }
    const std::uint32_t room = fresh_bytes(slab) / size;
    if (room == 0) return nullptr;
    const std::uint32_t count = std::clamp<std::uint32_t>(carve_bytes / size, 1, room);
    std::uintptr_t at = base + slab->fresh - size;
    auto *first = reinterpret_cast<Block *>(at);
    Block *last = first;
    for (std::uint32_t i = 1; i < count; ++i) {
        at -= size;
        last->next = reinterpret_cast<Block *>(at);
        last = last->next;
    }
    last->next = nullptr;
    slab->fresh -= count * size;
    slab->carved += count;
    slab->countdown += count;
    requests_ += count;
    links_.on_carve(first);
    return first;
}

// All blocks of the class's current slab that are ready: freed ones, or fresh ones.
template <class Links>
Block *SmallBlocks<Links>::take_blocks(Slab *slab) {
    if (slab->freed == nullptr) return carve(slab);
    Block *blocks = slab->freed;
    requests_ += slab->carved - slab->countdown;
    slab->freed = nullptr;
    slab->countdown = slab->carved;
    return blocks;
}

// An empty or new slab, for blocks of another class.
template <class Links>
void SmallBlocks<Links>::format(Slab *slab, unsigned class_index) {
    slab->freed = nullptr;
    slab->countdown = 0;
    slab->spare = 0;
    slab->carved = 0;
    const std::uintptr_t base = base_of(slab);
    slab->is_above = true;
    slab->fresh = static_cast<std::uint32_t>(slab_size());
    // Blocks of powers of two would compete for few lines of the CPU's caches as headers would, so some of
    // what is left over after the last block is left before the first.
    const std::size_t lines = fresh_bytes(slab) % class_size(class_index) / cache_line + 1;
    slab->fresh -= static_cast<std::uint32_t>(base / slab_size() / 4 % lines * cache_line);
    links_.on_format(slab);
}

// ---- Slabs of the heap

template <class Links>
void SmallBlocks<Links>::set_slab_count(std::size_t count) {
    slab_count_ = count;
    is_small_heap_ = count * slab_size() <= 3 * nursery_.size();
    if (count == 0) classes_with_slabs_ = 0;
}

template <class Links>
Slab *SmallBlocks<Links>::take_slab() {
    links_.verify_map();
    const std::uint64_t refused = pages_.budget().counts().refusals;
    void *memory = pages_.take_slab();
    if (memory == nullptr) {
        const bool is_counted = pages_.budget().counts().refusals != refused;
        if (!is_counted && !spares_nursery()) pages_.budget().refuse();
        return nullptr;
    }
    set_slab_count(slab_count_ + 1);
    Slab *slab = new (slab_at<Links>(reinterpret_cast<std::uintptr_t>(memory))) Slab;
    links_.on_slab(slab);
    return slab;
}

template <class Links>
void SmallBlocks<Links>::give_slab(Slab *slab) {
    links_.verify_map();
    links_.on_give(slab);
    pages_.give(reinterpret_cast<void *>(base_of(slab)));
    set_slab_count(slab_count_ - 1);
}

template <class Links>
std::size_t SmallBlocks<Links>::release_empty(std::size_t bytes) {
    std::size_t released = 0;
    while (released < bytes && empty_count_ > 0) {
        Slab *slab = links_.verify(empty_.first);
        empty_.remove(slab);
        --empty_count_;
        give_slab(slab);
        released += slab_size();
    }
    return released;
}

template <class Links>
void SmallBlocks<Links>::make_empty(Slab *slab) {
    slab->state = SlabState::empty;
    empty_.push_back(slab);
    ++empty_count_;
    pages_.after_free();
}

template <class Links>
void SmallBlocks<Links>::make_current(Slab *slab, unsigned class_index) {
    slab->state = SlabState::current;
    slab->class_index = static_cast<std::uint8_t>(class_index);
    current_[class_index] = slab;
    classes_with_slabs_ |= 1u << class_index;
}

// The current slab has nothing left.
template <class Links>
void SmallBlocks<Links>::retire_current(unsigned class_index) {
    Slab *slab = current_[class_index];
    if (slab == nullptr) return;
    slab->state = SlabState::full;
    slab->countdown = std::max<std::uint32_t>(slab->carved / 8, 1);
    slab->spare = slab->carved - slab->countdown;
    full_.push_back(slab);
    current_[class_index] = nullptr;
    assert(is_valid(slab));
}

// The next slab for a class: one with freed blocks, an empty one, a new one.
template <class Links>
bool SmallBlocks<Links>::next_current(unsigned class_index) {
    Slab *slab = partial_[class_index].first;
    if (slab != nullptr) {
        partial_[class_index].remove(links_.verify(slab));
    } else {
        slab = empty_.last;
        if (slab != nullptr) {
            empty_.remove(links_.verify(slab));
            --empty_count_;
        } else {
            slab = take_slab();
            if (slab == nullptr) return false;
        }
        format(slab, class_index);
    }
    make_current(slab, class_index);
    pages_.budget().publish();
    return true;
}

// ---- Freed blocks of the nursery

// Whether what is freed in the nursery stays there for now. Its blocks are handed out again at the price of
// sorting them; where the nursery is a quarter of the heap or less, slabs serve faster. A heap that becomes
// small again, or comes near its limit, uses them.
template <class Links>
bool SmallBlocks<Links>::spares_nursery() const {
    return Links::knows_sizes && !is_small_heap_ && pages_.budget().has_room(slab_size());
}

// What was freed in a piece of the nursery is ready, each block in the list of its class.
template <class Links>
void SmallBlocks<Links>::sort_freed(Slab *piece) {
    Block *block = piece->freed;
    count_in_nursery(Links::nursery_batch - piece->countdown);
    piece->freed = nullptr;
    piece->countdown = Links::nursery_batch;
    while (block != nullptr) {
        Block *next = links_.next(block);
        const std::size_t bytes = nursery_.size_at(block);
        if (serves(bytes)) {
            Block *&list = ready_[class_of(bytes)];
            links_.link(block, list);
            list = block;
        } else {
            nursery_.put_aside(block);
        }
        block = next;
    }
}

template <class Links>
Block *SmallBlocks<Links>::take_ready(unsigned class_index) {
    Block *block = ready_[class_index];
    if (block != nullptr) ready_[class_index] = links_.claim(block, class_index);
    return block;
}

// A freed block of this class in the nursery, or null; other classes get theirs on the way.
template <class Links>
Block *SmallBlocks<Links>::take_freed_in_nursery(unsigned class_index) {
    Block *found = nullptr;
    const bool at_once = nursery_.any_piece([&](Slab *piece) {
        Block *block = piece->freed;
        if (block == nullptr) return false;
        const std::size_t bytes = nursery_.size_at(block);
        if (!serves(bytes) || class_of(bytes) != class_index) {
            sort_freed(piece);
            return false;
        }
        piece->freed = links_.next(block);
        ++piece->countdown;
        ++requests_;
        found = block;
        return true;
    });
    return at_once ? found : take_ready(class_index);
}

// When there is no slab: a block of the nursery that was left alone so far; or null, and the refusal is
// counted.
template <class Links>
Block *SmallBlocks<Links>::take_spared(unsigned class_index) {
    if (!spares_nursery()) return nullptr;
    Block *block = take_freed_in_nursery(class_index);
    if (block == nullptr) pages_.budget().refuse();
    return block;
}

// ---- The slow paths of malloc and free

template <class Links>
[[gnu::noinline]] void *SmallBlocks<Links>::refill(unsigned class_index) {
    if (Links::knows_sizes && !spares_nursery()) {
        if (Block *block = take_freed_in_nursery(class_index)) return block;
    }
    if (void *ptr = nursery_.take(class_size(class_index))) {
        count_in_nursery(1);
        links_.on_new(ptr, class_index);
        return ptr;
    }
    Block *blocks = nullptr;
    while (current_[class_index] == nullptr ||
           (blocks = take_blocks(links_.verify(current_[class_index]))) == nullptr) {
        retire_current(class_index);
        if (!next_current(class_index)) return take_spared(class_index);
    }
    ready_[class_index] = links_.claim(blocks, class_index);
    assert(is_valid(current_[class_index]));
    return blocks;
}

template <class Links>
void *SmallBlocks<Links>::event(Slab *slab, Block *block, std::size_t size) {
    if (slab == nullptr) {
        count_in_nursery(early_batch);
        return nullptr;
    }
    switch (links_.verify(slab)->state) {
        case SlabState::nursery:
            if (!Links::knows_sizes) {
                slab->freed = nullptr;
                slab->countdown = Links::nursery_batch;
                links_.link(block, ready_[class_of(size)]);
                ready_[class_of(size)] = block;
                count_in_nursery(1);
            } else if (spares_nursery()) {
                slab->countdown = Links::nursery_batch;
                count_in_nursery(Links::nursery_batch);
            } else {
                sort_freed(slab);
            }
            break;
        case SlabState::full:
            full_.remove(slab);
            slab->countdown = slab->spare;
            slab->spare = 0;
            slab->state = SlabState::partial;
            partial_[slab->class_index].push_back(slab);
            pages_.budget().publish();
            break;
        case SlabState::partial:
            partial_[slab->class_index].remove(slab);
            make_empty(slab);
            pages_.budget().publish();
            return nullptr;  // the slab may be gone
        case SlabState::current:
        case SlabState::empty:
            break;
    }
    assert(is_valid(slab));
    return nullptr;
}

// ---- The rest

template <class Links>
void *SmallBlocks<Links>::alloc_larger(std::size_t size) {
    for (unsigned i = class_of(size) + 1; i < class_count && class_size(i) <= small_max_; ++i) {
        const Slab *slab = current_[i];
        const bool is_ready =
            ready_[i] != nullptr || partial_[i].first != nullptr ||
            (slab != nullptr && (slab->freed != nullptr || fresh_bytes(slab) >= class_size(i)));
        if (!is_ready) continue;
        void *ptr = alloc(class_size(i));
        if (ptr != nullptr) links_.on_shrink(ptr, size, false);
        return ptr;
    }
    return nullptr;
}

// The nursery's blocks stay ready.
template <class Links>
void SmallBlocks<Links>::gather_ready() {
    for (unsigned i = 0; i < class_count; ++i) {
        Block *blocks = ready_[i];
        ready_[i] = nullptr;
        while (blocks != nullptr) {
            Block *next = links_.next(blocks);
            Slab *slab = links_.verify(slab_at<Links>(base_of(blocks)));
            if (slab->state == SlabState::nursery) {
                links_.link(blocks, ready_[i]);
                ready_[i] = blocks;
            } else {
                links_.link(blocks, slab->freed);
                slab->freed = blocks;
                if (--slab->countdown == 0) event(slab, blocks, class_size(i));
            }
            blocks = next;
        }
        Slab *slab = current_[i];
        if (slab != nullptr && slab->used() == 0) {
            current_[i] = nullptr;
            make_empty(slab);
        }
    }
}

// ---- What holds

template <class Links>
bool SmallBlocks<Links>::is_valid(const Slab *slab) const {
    if (slab != slab_at<Links>(base_of(slab))) return false;
    if (slab->state == SlabState::nursery) {
        return slab->countdown == Links::nursery_batch && (slab->freed == nullptr || spares_nursery());
    }
    const std::size_t size = class_size(slab->class_index);
    if (slab->carved * size > slab_size() || slab->used() > slab->carved) return false;
    if (slab->fresh > slab_size() || fresh_bytes(slab) > slab->fresh) return false;
    switch (slab->state) {
        case SlabState::current:
            return current_[slab->class_index] == slab && slab->spare == 0;
        case SlabState::full:
            return slab->countdown > 0 && slab->spare > 0;
        case SlabState::partial:
            return slab->countdown > 0 && slab->spare == 0 && slab->freed != nullptr;
        case SlabState::empty:
            return slab->used() == 0;
        default:
            return false;
    }
}

template <class Links>
bool SmallBlocks<Links>::is_valid() const {
    std::size_t slabs = 0;
    std::size_t empty = 0;
    const auto all = [&](const SlabList &list, SlabState state) {
        for (const Slab *slab = list.first; slab != nullptr; slab = slab->next) {
            if (slab->state != state || !is_valid(slab)) return false;
            ++slabs;
            if (state == SlabState::empty) ++empty;
        }
        return true;
    };
    for (unsigned i = 0; i < class_count; ++i) {
        if (!all(partial_[i], SlabState::partial)) return false;
        if (current_[i] == nullptr) continue;
        if (current_[i]->state != SlabState::current || !is_valid(current_[i])) return false;
        ++slabs;
    }
    return all(full_, SlabState::full) && all(empty_, SlabState::empty) && slabs == slab_count_ &&
           empty == empty_count_;
}

template class SmallBlocks<Plain>;
template class SmallBlocks<Hardened>;

}  // namespace jemalloc_lua
