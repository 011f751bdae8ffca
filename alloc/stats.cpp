// Statistics for people and for programs, both printed from one table.

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "jemalloc_lua.h"

namespace {

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
    const char *field = reinterpret_cast<const char *>(&stats) + row.offset;
    if (row.width == sizeof(unsigned)) {
        unsigned value;
        std::memcpy(&value, field, sizeof value);
        return value;
    }
    std::uint64_t value;
    std::memcpy(&value, field, sizeof value);
    return value;
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

std::string value_text(const Row &row, std::uint64_t value, bool json) {
    if (row.unit == Unit::front || row.unit == Unit::fallbacks) {
        const char *name = row.unit == Unit::front ? front_name(value) : fallback_name(value);
        return json ? '"' + std::string(name) + '"' : name;
    }
    std::string digits = std::to_string(value);
    if (json) return digits;
    for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, 1, ',');
    return row.unit == Unit::bytes ? digits + " B" : digits;
}

}  // namespace

int jemalloc_lua_stats_format(const jemalloc_lua_stats *stats, int json, char *buf, std::size_t len) {
    std::string text;
    if (stats != nullptr && stats->size >= sizeof *stats) {
        for (const Row &row : table) {
            const std::string value = value_text(row, get(*stats, row), json != 0);
            char line[192];
            if (json != 0) {
                std::snprintf(line, sizeof line, "%s\"%s\":%s", text.empty() ? "{" : ",", row.name,
                              value.c_str());
            } else {
                std::snprintf(line, sizeof line, "%-14s %20s  %s\n", row.name, value.c_str(), row.help);
            }
            text += line;
        }
        if (json != 0) text += "}";
    }
    if (buf != nullptr && len > 0) {
        const std::size_t n = text.size() < len ? text.size() : len - 1;
        std::memcpy(buf, text.data(), n);
        buf[n] = '\0';
    }
    return static_cast<int>(text.size());
}
