// Live statistics of all states, JEMALLOC_LUA_CONF=stats_file:PATH, for readers in other processes.
// tools/stats_file.py is such a reader.
//
//   +--------+---------------+----------+----------+-- - -+----------+- - - - - - - - - -+
//   | header | schema (JSON) | record 1 | record 2 |      | record n | not touched       |
//   +--------+---------------+----------+----------+-- - -+----------+- - - - - - - - - -+
//
// There is one record for each open state, which stays at its place until the state is closed. The state's
// own thread writes it, off the allocation path, with plain stores: there is no thread and no lock in that.
// The schema says what a record and the header hold: names, units, kinds and help of all values, and where
// they are. So a reader needs no list of its own.
//
// All of this is memory that only this process can write (shared_memory.h), where readers find the present
// numbers. A copy is in the file at PATH (published_file.h), for readers of other users or containers and for
// the time after the process. It is written at once when a state begins or ends, or its footprint has moved
// by an eighth and 1 MiB, and for other changes once a second.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/heap.h"
#include "heap/stats.h"

namespace jemalloc_lua::live_file {

using Word = std::atomic<std::uint64_t>;

inline constexpr char magic[8] = {'J', 'L', 'u', 'a', 'S', 't', 'a', 't'};
inline constexpr std::uint32_t version = 2;
inline constexpr std::uint64_t max_records = 65536;
inline constexpr std::uint64_t unknown =
    UINT64_MAX;  // a value that is not known, such as `live` of a heap without a state

inline constexpr std::size_t stats_words = sizeof(Stats) / sizeof(Word);

// Numbers are the machine's own, little-endian on all that this runs on.
struct Header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t header_size;  // bytes before the first record
    std::uint32_t record_size;  // bytes
    std::uint32_t max_records;
    std::uint64_t process;  // its id, as it sees it itself
    std::uint64_t started;  // of the process, clock ticks after boot, field 22 in proc(5)'s stat; 0: unknown
    std::uint32_t schema;   // where it is: bytes from the beginning of the header
    std::uint32_t schema_size;  // bytes
    std::uint32_t path;         // where that of the file is, which ends with a 0
    std::uint32_t reserved;
    char program[32];         // name of the process
    std::uint64_t copied_ns;  // in the file: when this copy was made, nanoseconds since 1970; in memory: 0
    Word records;             // how many have been in use: those to look at
    Word states, states_made, states_closed, states_unlisted;
    Word closed[stats_words];  // an image of jemalloc_lua_stats: of counters, the sums over closed states
};

struct alignas(64) Record {
    Word sequence;             // odd while the record is written; another after that
    Word state;                // its number in this process, from 1; 0: the record is free
    Word made_ns;              // when the state was made, nanoseconds since 1970
    Word next_free;            // the library's own: number of the next free record, or 0
    Word copied;               // the library's own: the footprint in the file
    Word values[stats_words];  // an image of jemalloc_lua_stats
};

static_assert(Word::is_always_lock_free && sizeof(Stats) % sizeof(Word) == 0);

// Has each heap get a record from now on, if JEMALLOC_LUA_CONF asks for the file and there is room. The first
// call makes the file. If that fails, one line on stderr says why, and no heap ever gets a record. To be
// called before each heap is made, by any thread.
void begin();

}  // namespace jemalloc_lua::live_file
