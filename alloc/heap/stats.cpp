// The table of statistics, and how it is printed for people and for programs.

#include "heap/stats.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "base/field.h"
#include "base/text.h"
#include "config/options.h"

namespace jemalloc_lua {
namespace {

// enum jemalloc_lua_way_back
constexpr const char *way_back_names[] = {"purge", "remap", "none", nullptr};
constexpr const char *fallback_words[] = {"arena", "tcache", nullptr};  // JEMALLOC_LUA_FALLBACK_* bits

#define FIELD(name) offsetof(Stats, name), sizeof(Stats::name)
constexpr Statistic table[] = {
    {"live", Unit::bytes, Kind::gauge, in_top | in_process_list, FIELD(live), "[l]ive",
     "in use: 1,024 times what collectgarbage('count') tells"},
    {"footprint", Unit::bytes, Kind::gauge, in_report | in_top | in_process_list, FIELD(footprint),
     "[f]ootprint", "held from jemalloc, buffers of the Lua module included; never below live"},
    {"peak", Unit::bytes, Kind::gauge, in_report | in_top, FIELD(peak), "[p]eak", "highest footprint so far"},
    {"limit", Unit::bytes, Kind::bound, in_report | in_top, FIELD(limit), "li[m]it",
     "hard limit of the footprint (0: none)"},
    {"soft_limit", Unit::bytes, Kind::bound, nowhere, FIELD(soft_limit), nullptr,
     "footprint above which the collector is pushed (0: none)"},
    {"nursery_used", Unit::bytes, Kind::gauge, nowhere, FIELD(nursery_used), nullptr,
     "used of the nursery (0: no nursery)"},
    {"slabs", Unit::number, Kind::gauge, in_report, FIELD(slabs), "slabs", "slabs held"},
    {"empty_slabs", Unit::number, Kind::gauge, nowhere, FIELD(empty_slabs), nullptr,
     "slabs without a block, kept for reuse"},
    {"large_blocks", Unit::number, Kind::gauge, in_report, FIELD(large_blocks), "large",
     "blocks that are extents of their own"},
    {"large_bytes", Unit::bytes, Kind::gauge, nowhere, FIELD(large_bytes), nullptr, "held by those blocks"},
    {"cached_bytes", Unit::bytes, Kind::gauge, nowhere, FIELD(cached_bytes), nullptr,
     "freed blocks kept for reuse, outside of slabs"},
    {"refusals", Unit::number, Kind::counter, in_report | in_top | in_process_list, FIELD(refusals),
     "ref[u]sals", "requests refused, by the limit or because memory ran out"},
    {"gc_pushes", Unit::number, Kind::counter, nowhere, FIELD(gc_pushes), nullptr,
     "times that the collector was started, above the soft limit or at a refusal"},
    {"purged", Unit::bytes, Kind::counter, in_report, FIELD(purged), "purged",
     "returned to the system by retention and trim"},
    {"arena", Unit::index, Kind::gauge, in_report | in_top, FIELD(arena), "[a]rena",
     "arena that the next large block comes from"},
    {"front", Unit::word, Kind::gauge, in_report, FIELD(front), "front", "enum jemalloc_lua_front",
     front_names},
    {"fallbacks", Unit::words, Kind::gauge, nowhere, FIELD(fallbacks), nullptr,
     "what the heap did not get: JEMALLOC_LUA_FALLBACK_* bits", fallback_words},
    {"requests", Unit::number, Kind::counter, in_top | in_process_list | as_rate, FIELD(requests), "[r]ate",
     "blocks asked for, and freed ones that stand ready for the next requests"},
    {"way_back", Unit::word, Kind::gauge, nowhere, FIELD(way_back), nullptr,
     "how unused pages return to the system: enum jemalloc_lua_way_back", way_back_names},
};
#undef FIELD

// Each row's field begins where the last row's ends, and the last one ends the struct.
constexpr bool has_every_field_in_order() {
    std::size_t end = sizeof(Stats::size);
    for (const Statistic &row : table) {
        if (row.offset != (end + row.width - 1) / row.width * row.width) return false;
        end = row.offset + std::size_t{row.width};
    }
    return (end + alignof(Stats) - 1) / alignof(Stats) * alignof(Stats) == sizeof(Stats);
}
static_assert(has_every_field_in_order());

// A number with a comma at each third digit.
void add_grouped(Text &text, std::uint64_t value) {
    std::uint64_t scale = 1;
    while (value / scale >= 1000) scale *= 1000;
    text.add("%" PRIu64, value / scale);
    for (scale /= 1000; scale > 0; scale /= 1000) text.add(",%03" PRIu64, value / scale % 1000);
}

// "arena and tcache"; "none" where no bit is set.
void add_words(Text &text, const char *const *words, std::uint64_t bits) {
    const char *between = "";
    for (unsigned bit = 0; words[bit] != nullptr; ++bit) {
        if ((bits >> bit & 1) == 0) continue;
        text.add("%s%s", between, words[bit]);
        between = " and ";
    }
    if (*between == '\0') text.add("none");
}

bool has_words(const Statistic &row) {
    return row.unit == Unit::word || row.unit == Unit::words;
}

void add_name(Text &text, const Statistic &row, std::uint64_t value) {
    if (row.unit == Unit::words) return add_words(text, row.words, value);
    text.add("%s", word_of(row, value));
}

void add_json(Text &text, const Statistic &row, std::uint64_t value) {
    text.add("%s\"%s\":", text.length() == 0 ? "{" : ",", row.name);
    if (!has_words(row)) return text.add("%" PRIu64, value);
    text.add("\"");
    add_name(text, row, value);
    text.add("\"");
}

void add_line(Text &text, const Statistic &row, std::uint64_t value) {
    char shown[48];
    Text cell(shown, sizeof shown);
    if (has_words(row)) {
        add_name(cell, row, value);
    } else {
        add_grouped(cell, value);
    }
    if (row.unit == Unit::bytes) cell.add(" B");
    text.add("%-14s %20s  %s\n", row.name, shown, row.help);
}

}  // namespace

std::span<const Statistic> statistics() {
    return table;
}

std::uint64_t value_of(const Stats &stats, const Statistic &statistic) {
    return read_field<unsigned, std::uint64_t>(stats, statistic.offset, statistic.width);
}

const char *word_of(const Statistic &statistic, std::uint64_t value) {
    for (std::uint64_t i = 0; statistic.words[i] != nullptr; ++i) {
        if (i == value) return statistic.words[i];
    }
    return "unknown";
}

}  // namespace jemalloc_lua

int jemalloc_lua_stats_format(const jemalloc_lua_stats *stats, int json, char *buf, std::size_t len) {
    using namespace jemalloc_lua;
    Text text(buf, len);
    if (stats == nullptr || stats->size < first_stats_size) return 0;
    Stats known{};
    std::memcpy(&known, stats, std::min(stats->size, sizeof known));
    for (const Statistic &row : table) (json != 0 ? add_json : add_line)(text, row, value_of(known, row));
    if (json != 0) text.add("}");
    return text.length();
}
