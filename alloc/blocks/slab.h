// A slab: an extent aligned to its size, cut into blocks of one class, with a header in it.
//
//   +---------------+------+---------------------------------------------+
//   | <- then these | Slab |                 <- fresh blocks from here   |
//   +---------------+------+---------------------------------------------+
//
// The header is found from the address of any block in the slab: round down to the slab's size, add the
// colour. The colour (0 to 63 cache lines, by address) spreads the headers over the sets of the CPU's caches;
// without it all would compete for the same few lines. `Links` (plain.h, hardened.h) says what else stands
// beside the header.
//
// free() puts a block on its slab's list and counts down. The countdown reaches zero when something has to
// happen to the slab:
//
//   state     countdown runs out when                                   then the slab becomes
//   current   all its blocks are free                                   (stays current)
//   full      an eighth of its blocks are free: worth handing out       partial
//   partial   all its blocks are free                                   empty
//   nursery   some blocks are free: each goes to its class's ready      (stays nursery)
//             list, unless the heap has slabs enough
//
// Blocks on a class's ready list count as used. So used == countdown + spare, for all but the nursery's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/list.h"

namespace jemalloc_lua {

// A free block; the rest of it is whatever it last held. No block is smaller than 16 bytes.
struct Block {
    Block *next;
};

enum class SlabState : std::uint8_t { nursery, current, full, partial, empty };

struct alignas(64) Slab {
    Block *freed = nullptr;       // freed since the list was last taken, the newest first
    std::uint32_t countdown = 1;  // frees until something has to happen
    // Says that this is a slab's header, and of which heap: free() looks here before it knows that the block
    // is a small one. 0 once the slab is gone.
    std::uint32_t seal = 0;
    std::uint32_t spare = 0;   // blocks in use that the countdown does not count
    std::uint32_t carved = 0;  // blocks made so far of the fresh memory
    std::uint32_t fresh = 0;   // offset of the end of the fresh memory
    bool is_above = false;     // the fresh memory lies above the header, else below
    std::uint8_t class_index = 0;
    SlabState state = SlabState::nursery;
    Slab *next = nullptr;
    Slab *prev = nullptr;
    // The last 16 bytes are not used: memcheck takes them for the next block's.

    std::uint32_t used() const { return countdown + spare; }
};
static_assert(sizeof(Slab) == 64);

using SlabList = List<Slab>;

// ---- Where the header stands, in a slab that begins at `base`

constexpr std::uintptr_t colour(std::uintptr_t base) {
    return (base >> 9) & 0xFC0;
}

// The bytes from here to header_end() are no blocks.
constexpr std::uintptr_t header_start(std::uintptr_t base) {
    return base + colour(base);
}
template <class Links>
constexpr std::uintptr_t header_end(std::size_t slab_size, std::uintptr_t base) {
    return header_start(base) + Links::before_header + sizeof(Slab) + Links::after_header(slab_size);
}

template <class Links>
Slab *slab_at(std::uintptr_t base) {
    return reinterpret_cast<Slab *>(header_start(base) + Links::before_header);
}
// `mask` is that of the address bits that slabs are aligned to.
template <class Links>
Slab *slab_of(const void *block, std::uintptr_t mask) {
    return slab_at<Links>(reinterpret_cast<std::uintptr_t>(block) & mask);
}

}  // namespace jemalloc_lua
