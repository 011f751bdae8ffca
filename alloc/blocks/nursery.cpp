#include "blocks/nursery.h"

#include <new>

#include "blocks/hardened.h"
#include "blocks/plain.h"

namespace jemalloc_lua {

template <class Links>
void Nursery<Links>::open_piece() {
    Slab *piece = new (slab_at<Links>(ready_)) Slab;
    piece->countdown = Links::nursery_batch;
    links_.on_piece(piece);
    if constexpr (Links::knows_sizes) {
        std::memset(marks_of(ready_), 0, marks_bytes(pages_.settings().slab_size));
    }
    ready_ += pages_.settings().slab_size;
    if (ready_ - start_ == pages_.settings().slab_size) mark(low_);
}

template <class Links>
void Nursery<Links>::mark(std::uintptr_t at) {
    if (!Links::knows_sizes || at >= ready_) return;
    const std::uintptr_t unit = (at & ~mask_) / 16;
    marks_of(at & mask_)[unit / 8] |= static_cast<std::uint8_t>(1 << unit % 8);
}

template <class Links>
std::size_t Nursery<Links>::size_at(const void *ptr) const {
    const auto at = reinterpret_cast<std::uintptr_t>(ptr);
    if (const std::uint32_t units = units_at(ptr)) return units * std::size_t{16};
    std::uintptr_t next = at + 16;
    while (next < ready_) {
        const std::uintptr_t unit = (next & ~mask_) / 16;
        const unsigned rest = marks_of(next & mask_)[unit / 8] >> unit % 8;
        if (rest != 0) return next + static_cast<unsigned>(std::countr_zero(rest)) * std::size_t{16} - at;
        next += (8 - unit % 8) * 16;
    }
    return ready_ - at;
}

// False where the limit leaves no room, or jemalloc none for the map; there may be some in a slab.
template <class Links>
bool Nursery<Links>::open_next_piece() {
    if (Links::before_header != 0 && !pages_.reserve_entry()) return false;
    if (!pages_.take_bytes(pages_.settings().slab_size)) return false;
    open_piece();
    return true;
}

template <class Links>
void *Nursery<Links>::take(std::size_t size) {
    const std::size_t rounded = (size + 15) & ~std::size_t{15};
    if (size <= low_ - start_) {
        low_ -= rounded;
        mark(low_);
        return reinterpret_cast<void *>(low_);
    }
    const std::size_t step = pages_.settings().slab_size;
    std::uintptr_t at = fresh_;
    // The next piece's header is stepped over; a block that does not fit between two headers is not for here.
    std::uintptr_t piece = base_of(at);
    if (at > header_start(piece)) piece += step;
    if (piece < end_ && at + size > header_start(piece)) {
        at = first_block(step, piece);
        piece += step;
        if (piece < end_ && at + size > header_start(piece)) return nullptr;
    }
    if (at + size > end_) return nullptr;
    if (at + size > ready_ && !open_next_piece()) return nullptr;
    mark(fresh_);  // where the last block ends, whose piece may not have been the last one
    mark(at);
    fresh_ = at + rounded;
    mark(fresh_);
    return reinterpret_cast<void *>(at);
}

template class Nursery<Plain>;
template class Nursery<Hardened>;

}  // namespace jemalloc_lua
