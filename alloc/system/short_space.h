// Where the process may have so much address space and no more (RLIMIT_AS, RLIMIT_DATA), a block that grows
// must not hold its old range beside the new one. So an extent that is a mapping of its own is stretched:
// mremap() makes it longer, elsewhere if it must, as LuaJIT's own allocator does.
//
// jemalloc can't be told that an extent has another address. So the extent is freed: jemalloc gives it up,
// which the hook `dalloc` sees, where the mapping is stretched. Then an extent of the new size is allocated:
// jemalloc asks the hook `alloc`, which has the stretched mapping at hand. One thread does so at a time.
#pragma once

#include <cstddef>

namespace jemalloc_lua {

// Whether a bound is known. Looks again if none was.
bool is_space_bounded();
// As it was last seen.
bool is_space_short();

// Stretches a block, an allocation of jemalloc's with that size. Null: it can't be, and is as before. Not
// `grown`: there is no room, and the block is as before.
struct Stretched {
    void *block;
    bool grown;
};
// `flags` are those of mallocx() for the new extent, `free_flags` those of sdallocx() for the old one, which
// lies in the arena `index`.
Stretched stretch(void *block, std::size_t old_size, std::size_t new_size, unsigned index, int flags,
                  int free_flags);

// ---- For the hooks

// Whether so many bytes can be mapped, and some for machine code and for jemalloc's records as well.
bool has_room(std::size_t bytes);
// The mapping that is at hand for an extent that jemalloc asks for; null: none is.
void *mapping_at_hand(std::size_t size);
// Whether an extent that jemalloc gives up was one to stretch.
bool stretch_given_up(void *ptr, std::size_t size);

}  // namespace jemalloc_lua
