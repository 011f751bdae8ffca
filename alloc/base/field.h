// Numbers in structs that cross the ABI, found by a table's offset and width: an int or an unsigned, else 64
// bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace jemalloc_lua {

template <class Narrow, class Wide, class Struct>
Wide read_field(const Struct &fields, std::size_t offset, std::size_t width) {
    static_assert(sizeof(Wide) == sizeof(std::uint64_t));
    const char *field = reinterpret_cast<const char *>(&fields) + offset;
    if (width == sizeof(Narrow)) {
        Narrow narrow;
        std::memcpy(&narrow, field, sizeof narrow);
        return narrow;
    }
    Wide wide;
    std::memcpy(&wide, field, sizeof wide);
    return wide;
}

}  // namespace jemalloc_lua
