// The statistics of a heap: one table, with a row for each, in the order of the fields of jemalloc_lua_stats.
//
// All that shows statistics reads this table: the text and the JSON of the C API, J.heap.stats(), the report
// of the preload shim, and the live file, whose header carries the rows on to tools in other processes. To
// add a statistic: a field at the end of the struct, a row at the end of the table, and a class that counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

using Stats = jemalloc_lua_stats;

// What a value counts. An index names something; `word` and `words` are numbers that stand for names.
enum class Unit : std::uint8_t { bytes, number, index, word, words };

// A gauge moves up and down; a bound is a gauge for which 0 means that there is none; a counter never falls.
enum class Kind : std::uint8_t { gauge, bound, counter };

// Which tables, with a row for each state or process, have a column for a statistic. `as_rate`: per second.
enum Shown : std::uint8_t { nowhere = 0, in_report = 1, in_top = 2, in_process_list = 4, as_rate = 8 };

struct Statistic {
    const char *name;
    Unit unit;
    Kind kind;
    std::uint8_t shown;    // Shown bits
    std::uint16_t offset;  // of the field, bytes
    std::uint16_t width;   // of the field, bytes
    const char *head;      // of its column, with the key that sorts by it in brackets; null for no column
    const char *help;      // the field's comment in the header
    const char *const *words = nullptr;  // Unit::word: by value; Unit::words: by bit; ends with null
};

std::span<const Statistic> statistics();

std::uint64_t value_of(const Stats &stats, const Statistic &statistic);

// The name that a value of Unit::word stands for, "unknown" for one that has none.
const char *word_of(const Statistic &statistic, std::uint64_t value);

// sizeof(jemalloc_lua_stats) of version 1.0, whose last field was `fallbacks`.
inline constexpr std::size_t first_stats_size = offsetof(Stats, requests);

}  // namespace jemalloc_lua
