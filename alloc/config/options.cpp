// The table of options: for each one its key, its kind, its field, its default, its range and its help. From
// this table come the parser, the checks, the printing, the help, and from that the completion and the man
// pages. A second table has the options that only JEMALLOC_LUA_CONF sets, for the process as a whole.

#include "config/options.h"

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstring>

#include "config/table.h"

namespace jemalloc_lua {

constexpr const char *const front_names[] = {"slab", "direct", "checked", nullptr};

namespace option {
namespace {

constexpr Word front_words[] = {{front_names[JEMALLOC_LUA_FRONT_SLAB], JEMALLOC_LUA_FRONT_SLAB},
                                {front_names[JEMALLOC_LUA_FRONT_DIRECT], JEMALLOC_LUA_FRONT_DIRECT},
                                {front_names[JEMALLOC_LUA_FRONT_CHECKED], JEMALLOC_LUA_FRONT_CHECKED},
                                {}};
constexpr Word arena_words[] = {{"auto", JEMALLOC_LUA_ARENA_AUTO},
                                {"own", JEMALLOC_LUA_ARENA_OWN},
                                {"shared", JEMALLOC_LUA_ARENA_SHARED},
                                {"thread", JEMALLOC_LUA_ARENA_THREAD},
                                {}};
constexpr Word tcache_words[] = {{"own", JEMALLOC_LUA_TCACHE_OWN},
                                 {"none", JEMALLOC_LUA_TCACHE_NONE},
                                 {"thread", JEMALLOC_LUA_TCACHE_THREAD},
                                 {}};
constexpr Word thp_words[] = {{"default", JEMALLOC_LUA_THP_DEFAULT},
                              {"always", JEMALLOC_LUA_THP_ALWAYS},
                              {"never", JEMALLOC_LUA_THP_NEVER},
                              {}};
constexpr Word signal_words[] = {{"none", 0}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {}};
constexpr Word guard_words[] = {{"auto", address_guard_auto}, {"false", 0}, {"true", 1}, {}};
constexpr Word bool_words[] = {{"false", 0}, {"true", 1}, {}};
constexpr Word no_words[] = {{"none", 0}, {}};

constexpr std::int64_t K = 1024;
constexpr std::int64_t M = K * K;
constexpr std::int64_t max_size = INT64_MAX;  // jemalloc's own limit is PTRDIFF_MAX
constexpr std::int64_t max_arena = 4094;      // MALLOCX_ARENA() has 12 bits

#define FIELD(name) offsetof(Options, name), sizeof(Options::name)
constexpr Spec heap_table[] = {
    {"front", Kind::choice, FIELD(front), JEMALLOC_LUA_FRONT_SLAB, 0, 2, front_words,
     "slab, direct or checked", "how memory is cut into blocks"},
    {"arena", Kind::arena, FIELD(arena), JEMALLOC_LUA_ARENA_AUTO, JEMALLOC_LUA_ARENA_THREAD, max_arena,
     arena_words, "auto, own, shared, thread or the index of an arena (0 to 4094)",
     "the jemalloc arena that memory comes from"},
    {"tcache", Kind::choice, FIELD(tcache), JEMALLOC_LUA_TCACHE_OWN, 0, 2, tcache_words,
     "own, none or thread (thread only with arena:thread)", "thread cache of front:direct"},
    {"arena_threshold", Kind::size, FIELD(arena_threshold), 4 * M, 0, max_size, nullptr, "bytes, such as 4M",
     "arena:auto takes an arena of its own above this footprint"},
    {"limit", Kind::size, FIELD(limit), 0, 0, max_size, nullptr, "bytes, such as 64M (0: none)",
     "hard limit of the footprint"},
    {"soft_limit", Kind::size, FIELD(soft_limit), 0, 0, max_size, nullptr,
     "bytes, such as 48M (0: 80 % of limit)", "footprint above which the collector works harder"},
    {"retain", Kind::percent, FIELD(retain), 100, 0, 10000, nullptr, "percent, 0 to 10000",
     "memory kept after a collection, of what is live"},
    {"nursery", Kind::size, FIELD(nursery), 128 * K, 16 * K, M, nullptr, "bytes, 16K to 1M",
     "slab: first block, holds the state and its first objects"},
    {"slab", Kind::power_of_two, FIELD(slab), 32 * K, min_slab, max_slab, nullptr,
     "bytes, a power of two from 16K to 1M", "slab: bytes of one slab"},
    {"small_max", Kind::multiple_of_16, FIELD(small_max), 1024, min_small, max_small, nullptr,
     "bytes, a multiple of 16 from 528 to 1K", "slab: largest block that is cut from a slab"},
    {"huge_min", Kind::size, FIELD(huge_min), 256 * K, 64 * K, max_size, nullptr, "bytes, 64K and up",
     "slab: blocks this large grow by moving pages"},
    {"dirty_decay_ms", Kind::milliseconds, FIELD(dirty_decay_ms), JEMALLOC_LUA_DECAY_DEFAULT, -1,
     INTPTR_MAX / 1000000, nullptr, "milliseconds (-1: never, 0: at once) or default",
     "own arenas: time until dirty pages are purged"},
    {"muzzy_decay_ms", Kind::milliseconds, FIELD(muzzy_decay_ms), JEMALLOC_LUA_DECAY_DEFAULT, -1,
     INTPTR_MAX / 1000000, nullptr, "milliseconds (-1: never, 0: at once) or default",
     "own arenas: time until muzzy pages are purged"},
    {"thp", Kind::choice, FIELD(thp), JEMALLOC_LUA_THP_DEFAULT, 0, 2, thp_words, "default, always or never",
     "huge pages for the largest blocks"},
    {"scrub", Kind::boolean, FIELD(scrub), 0, 0, 1, bool_words, "true or false",
     "zero memory when it is freed and when the state closes"},
    {"harden", Kind::boolean, FIELD(harden), 0, 0, 1, bool_words, "true or false",
     "slab only: end the process upon double free, wrong size, overwritten links"},
};
#undef FIELD

#define FIELD(name) offsetof(Settings, name), sizeof(Settings::name)
constexpr Spec process_table[] = {
    {"verbose", Kind::boolean, FIELD(verbose), 0, 0, 1, bool_words, "true or false",
     "preload: say on stderr why a host keeps its own allocator"},
    {"stats_print", Kind::boolean, FIELD(stats_print), 0, 0, 1, bool_words, "true or false",
     "preload: print statistics of all states at exit"},
    {"stats_signal", Kind::choice, FIELD(stats_signal), 0, 0, NSIG, signal_words, "none, USR1 or USR2",
     "preload: print them when this signal comes"},
    {"address_guard", Kind::choice, FIELD(address_guard), address_guard_auto, address_guard_auto, 1,
     guard_words, "auto, true or false", "keep arenas below 2^47, where LuaJIT's pointers end"},
    {"stats_file", Kind::text, FIELD(stats_file), 0, 0, 0, no_words,
     "a path, %p in it is the process id; in quotes (' or \") where it has a comma",
     "file that shows the states' statistics live"},
};
#undef FIELD

// Each row's field begins where the last row's ends, and the last one ends the struct.
constexpr bool has_every_field_in_order() {
    std::size_t end = sizeof(Options::size);
    for (const Spec &row : heap_table) {
        if (row.offset != (end + row.width - 1) / row.width * row.width) return false;
        end = row.offset + row.width;
    }
    return (end + alignof(Options) - 1) / alignof(Options) * alignof(Options) == sizeof(Options);
}
static_assert(has_every_field_in_order());

// sizeof(Options) of version 1.0, whose last field was `harden`.
constexpr std::size_t first_version_size =
    (offsetof(Options, harden) + sizeof(Options::harden) + alignof(Options) - 1) / alignof(Options) *
    alignof(Options);

// A caller's `size` tells which fields it knows. One in the padding of version 1.0 would be known to all.
constexpr bool later_fields_have_room_of_their_own() {
    return std::ranges::all_of(heap_table, [](const Spec &row) {
        return row.offset <= offsetof(Options, harden) || row.offset >= first_version_size;
    });
}
static_assert(later_fields_have_room_of_their_own());

}  // namespace

std::span<const Spec> of_heap() {
    return heap_table;
}

std::span<const Spec> of_process() {
    return process_table;
}

bool in_range(const Spec &spec, std::int64_t value) {
    if (spec.kind == Kind::milliseconds && value == JEMALLOC_LUA_DECAY_DEFAULT) return true;
    if (value < spec.low || value > spec.high) return false;
    if (spec.kind == Kind::multiple_of_16) return value % 16 == 0;
    return spec.kind != Kind::power_of_two || std::has_single_bit(static_cast<std::uint64_t>(value));
}

int check_together(const Options &options, const Message &say) {
    if (options.tcache == JEMALLOC_LUA_TCACHE_THREAD && options.arena != JEMALLOC_LUA_ARENA_THREAD) {
        return say("tcache:thread is the cache of the thread's own arena: it takes arena:thread with it");
    }
    if (options.harden != 0 && options.front != JEMALLOC_LUA_FRONT_SLAB) {
        return say("harden:true hardens front:slab alone; front:checked verifies each call without it");
    }
    return 0;
}

}  // namespace option

int adopt_options(const Options *given, Options *out, char *err, std::size_t errlen) {
    using namespace option;
    const Message say{err, errlen};
    if (given == nullptr) return say("no options: jemalloc_lua_options_init() makes some");
    if (given->size < first_version_size) {
        return say("options.size is %zu: jemalloc_lua_options_init() sets it", given->size);
    }
    jemalloc_lua_options_init(out);
    std::memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
    out->size = sizeof *out;
    for (const Spec &spec : heap_table) {
        const std::int64_t value = get(*out, spec);
        if (!in_range(spec, value)) {
            return say("%s: %lld is out of range; it takes %s", spec.key.data(),
                       static_cast<long long>(value), spec.takes);
        }
    }
    return check_together(*out, say);
}

}  // namespace jemalloc_lua

// ---- C API

using namespace jemalloc_lua;

void(jemalloc_lua_options_init)(jemalloc_lua_options *options) {
    jemalloc_lua_options_init_size(options, option::first_version_size);
}

void jemalloc_lua_options_init_size(jemalloc_lua_options *options, std::size_t size) {
    if (options == nullptr || size < sizeof options->size) return;
    Options defaults;
    std::memset(&defaults, 0, sizeof defaults);
    for (const option::Spec &spec : option::of_heap()) set(defaults, spec, spec.initial);
    defaults.size = size;
    std::memset(options, 0, size);
    std::memcpy(options, &defaults, std::min(size, sizeof defaults));
}
