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
    ready_ += pages_.settings().slab_size;
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
        return reinterpret_cast<void *>(low_);
    }
    const std::size_t step = pages_.settings().slab_size;
    std::uintptr_t at = fresh_;
    // The next piece's header is stepped over; a block that does not fit between two headers is not for here.
    std::uintptr_t piece = base_of(at);
    if (at > header_start(piece)) piece += step;
    if (piece < end_ && at + size > header_start(piece)) {
        at = header_end<Links>(step, piece);
        piece += step;
        if (piece < end_ && at + size > header_start(piece)) return nullptr;
    }
    if (at + size > end_) return nullptr;
    if (at + size > ready_ && !open_next_piece()) return nullptr;
    fresh_ = at + rounded;
    return reinterpret_cast<void *>(at);
}

template class Nursery<Plain>;
template class Nursery<Hardened>;

}  // namespace jemalloc_lua
