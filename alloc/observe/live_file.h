// The file of live statistics, JEMALLOC_LUA_CONF=stats_file:PATH: a mapped file that other processes read
// while this one runs. tools/stats_file.py is its reader.
//
//   +--------+----------+----------+-- - -+----------+- - - - - - - - - - - - -+
//   | header | record 0 | record 1 |      | record n | not touched: a hole      |
//   +--------+----------+----------+-- - -+----------+- - - - - - - - - - - - -+
//
// One record for each state that is open, at the same place until it is closed. It is written by the state's
// own thread, off the allocation path: when the footprint has moved, when a slab's worth of blocks was used
// up or freed, when a request is refused. There is no thread, no lock and no system call in that. The words
// of a record belong together when `sequence` is even and the same before and after they are read.
//
// The layout is that of the machine's own words, little-endian on all that this runs on. Later versions add
// words at the end of the header and of the record, whose sizes the header tells.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/heap.h"

namespace jemalloc_lua::stats_file {

using Word = std::atomic<std::uint64_t>;

inline constexpr char magic[8] = {'J', 'L', 'u', 'a', 'S', 't', 'a', 't'};
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint64_t max_records = 65536;
inline constexpr std::uint64_t unknown = UINT64_MAX;  // `live` of a heap whose state is not known

struct alignas(256) Header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t header_size;  // bytes
    std::uint32_t record_size;  // bytes
    std::uint32_t max_records;
    std::uint64_t process;     // its id
    std::uint64_t started_ns;  // when the file was made, nanoseconds since 1970
    char program[32];          // name of the process
    Word records;              // how many have been in use: those to look at
    Word made;                 // states made
    Word ended;                // states closed
    Word unlisted;             // of those made, how many found no record
    Word ended_requests;       // sums over the states that were closed
    Word ended_refusals;
    Word ended_purged;
};

struct alignas(128) Record {
    Word sequence;                            // odd: it is being written
    Word state;                               // its number in this process, from 1; 0: the record is free
    Word made_ns;                             // when the state was made, nanoseconds since 1970
    Word live;                                // bytes, in whole KiB, or `unknown`
    Word footprint, peak, limit, soft_limit;  // bytes
    Word requests;                            // blocks asked for, to within those that stand ready
    Word refusals, gc_pushes;
    Word purged;  // bytes
    Word arena, front, fallbacks;
    Word next_free;  // the library's own: number of the next free record, or 0
};

static_assert(sizeof(Header) == 256 && sizeof(Record) == 128 && Word::is_always_lock_free);

// A heap gets a record, where JEMALLOC_LUA_CONF asks for the file and there is room. The first call makes the
// file; where that can't be done, it says so in one line on stderr, and no heap ever gets a record.
void begin(Heap *heap);
// Writes a heap's record.
void show(const Heap *heap);
// The heap's record is free again.
void end(Heap *heap);

}  // namespace jemalloc_lua::stats_file
