#include "pages/gaps.h"

#include <algorithm>

namespace jemalloc_lua {
namespace {

// A heap at its limit is settled after it has asked for this much: so far may its resident memory pass the
// limit before.
constexpr std::size_t min_room = std::size_t{256} << 10;

}  // namespace

void Gaps::settle(std::size_t pages, std::size_t bytes) {
    const Budget::Counts &counts = budget_.counts();
    const bool limited = counts.limit != SIZE_MAX;
    const std::size_t blocks = counts.own() - bytes_;
    // Up to the limit: gaps at the limit already refuse every request.
    const std::size_t held =
        std::min(limited ? counts.limit - std::min(counts.limit, counts.charged) : 0, pages);
    const std::size_t before = bytes_;
    bytes_ = held > blocks ? held - blocks : 0;
    if (bytes_ > before) {
        budget_.take_always(bytes_ - before);
    } else {
        budget_.give(before - bytes_);
    }
    room_ =
        limited ? std::max(counts.limit - std::min(counts.limit, counts.held + bytes), min_room) : SIZE_MAX;
}

std::size_t Gaps::footprint_now(const HeapArena &arena) const {
    const Budget::Counts &counts = budget_.counts();
    if (bytes_ == 0) return counts.held;
    return std::min(counts.held, std::max(counts.held - bytes_, arena.active() + counts.charged));
}

}  // namespace jemalloc_lua
