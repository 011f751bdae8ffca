// Statistics for people and for programs, both printed from one table.

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstring>

#include "base/field.h"
#include "jemalloc_lua.h"
#include "base/text.h"
#include "state/watch.h"

namespace {

using namespace jemalloc_lua;
using Stats = jemalloc_lua_stats;

enum class Unit { bytes, number, front, fallbacks };

struct Row {
    const char *name;
    Unit unit;
    std::size_t offset;
    std::size_t width;
    const char *help;
};

#define FIELD(name) offsetof(Stats, name), sizeof(Stats::name)
constexpr Row table[] = {
    {"front", Unit::front, FIELD(front), "front end"},
    {"arena", Unit::number, FIELD(arena), "index of the arena of the next large block"},
    {"live", Unit::bytes, FIELD(live), "in use, as Lua counts it"},
    {"footprint", Unit::bytes, FIELD(footprint), "held from jemalloc"},
    {"peak", Unit::bytes, FIELD(peak), "highest footprint"},
    {"limit", Unit::bytes, FIELD(limit), "hard limit (0: none)"},
    {"soft_limit", Unit::bytes, FIELD(soft_limit), "where the collector is pushed (0: nowhere)"},
    {"nursery_used", Unit::bytes, FIELD(nursery_used), "of the nursery"},
    {"slabs", Unit::number, FIELD(slabs), "slabs"},
    {"empty_slabs", Unit::number, FIELD(empty_slabs), "slabs without a block, kept for reuse"},
    {"large_blocks", Unit::number, FIELD(large_blocks), "blocks that are regions of their own"},
    {"large_bytes", Unit::bytes, FIELD(large_bytes), "bytes of those"},
    {"cached_bytes", Unit::bytes, FIELD(cached_bytes), "freed blocks kept for reuse, outside of slabs"},
    {"refusals", Unit::number, FIELD(refusals), "requests refused"},
    {"gc_pushes", Unit::number, FIELD(gc_pushes), "times that the soft limit pushed the collector"},
    {"purged", Unit::bytes, FIELD(purged), "given back by retention and trim"},
    {"fallbacks", Unit::fallbacks, FIELD(fallbacks), "what could not be had"},
};
#undef FIELD

std::uint64_t get(const Stats &stats, const Row &row) {
    return read_field<unsigned, std::uint64_t>(stats, row.offset, row.width);
}

const char *front_name(std::uint64_t front) {
    switch (front) {
        case JEMALLOC_LUA_FRONT_SLAB:
            return "slab";
        case JEMALLOC_LUA_FRONT_DIRECT:
            return "direct";
        case JEMALLOC_LUA_FRONT_CHECKED:
            return "checked";
        default:
            return "unknown";
    }
}

const char *fallback_name(std::uint64_t bits) {
    switch (bits) {
        case 0:
            return "none";
        case JEMALLOC_LUA_FALLBACK_ARENA:
            return "arena";
        case JEMALLOC_LUA_FALLBACK_TCACHE:
            return "tcache";
        default:
            return "arena and tcache";
    }
}

// The word that a value is shown as; null where it is a number.
const char *name_of(const Row &row, std::uint64_t value) {
    if (row.unit == Unit::front) return front_name(value);
    return row.unit == Unit::fallbacks ? fallback_name(value) : nullptr;
}

// A number with a comma at each third digit.
void add_grouped(Text &text, std::uint64_t value) {
    std::uint64_t scale = 1;
    while (value / scale >= 1000) scale *= 1000;
    text.add("%" PRIu64, value / scale);
    for (scale /= 1000; scale > 0; scale /= 1000) text.add(",%03" PRIu64, value / scale % 1000);
}

void add_json(Text &text, const Row &row, std::uint64_t value) {
    text.add("%s\"%s\":", text.length() == 0 ? "{" : ",", row.name);
    if (const char *name = name_of(row, value)) return text.add("\"%s\"", name);
    text.add("%" PRIu64, value);
}

void add_line(Text &text, const Row &row, std::uint64_t value) {
    char shown[48];
    Text number(shown, sizeof shown);
    const char *name = name_of(row, value);
    if (name == nullptr) add_grouped(number, value);
    if (row.unit == Unit::bytes) number.add(" B");
    text.add("%-14s %20s  %s\n", row.name, name != nullptr ? name : shown, row.help);
}

}  // namespace

int jemalloc_lua_stats_format(const jemalloc_lua_stats *stats, int json, char *buf, std::size_t len) {
    Text text(buf, len);
    if (stats == nullptr || stats->size < first_stats_size) return 0;
    Stats known{};
    std::memcpy(&known, stats, std::min(stats->size, sizeof known));
    for (const Row &row : table) (json != 0 ? add_json : add_line)(text, row, get(known, row));
    if (json != 0) text.add("}");
    return text.length();
}
