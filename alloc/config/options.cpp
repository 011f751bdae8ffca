// One table holds every option: its key, type, place in the struct, default, range and what is said of it.
// The parser, the checks, the printing and the help are all read from that table. A second one holds what
// only JEMALLOC_LUA_CONF may set, for the process as a whole.

#include "config/options.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

#include "base/field.h"
#include "base/process.h"
#include "base/text.h"

namespace jemalloc_lua {

constexpr const char *const front_names[] = {"slab", "direct", "checked", nullptr};

namespace {

using std::string_view;

enum class Kind { choice, arena, size, power_of_two, multiple_of_16, percent, milliseconds, boolean, text };

struct Word {
    string_view name;
    int value;
};

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

struct Spec {
    string_view key;
    Kind kind;
    std::size_t offset;
    std::size_t width;  // bytes of the field
    std::int64_t initial;
    std::int64_t low, high;
    const Word *words;
    const char *takes;
    const char *help;
};

#define FIELD(name) offsetof(Options, name), sizeof(Options::name)
constexpr Spec table[] = {
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
     "slab: memory kept after a collection, of what is live"},
    {"nursery", Kind::size, FIELD(nursery), 128 * K, 16 * K, M, nullptr, "bytes, 16K to 1M",
     "slab: first block, holds the state and its first objects"},
    {"slab", Kind::power_of_two, FIELD(slab), 32 * K, min_slab, max_slab, nullptr,
     "bytes, a power of two from 16K to 1M", "slab: bytes of one slab"},
    {"small_max", Kind::multiple_of_16, FIELD(small_max), 1024, min_small, max_small, nullptr,
     "bytes, a multiple of 16 from 528 to 1K", "slab: largest block carved from a slab"},
    {"huge_min", Kind::size, FIELD(huge_min), 256 * K, 64 * K, max_size, nullptr, "bytes, 64K and up",
     "slab: blocks this large grow by moving pages"},
    {"dirty_decay_ms", Kind::milliseconds, FIELD(dirty_decay_ms), JEMALLOC_LUA_DECAY_DEFAULT, -1,
     INTPTR_MAX / 1000000, nullptr, "milliseconds (-1: never, 0: at once) or default",
     "own arenas: time until unused dirty pages go back"},
    {"muzzy_decay_ms", Kind::milliseconds, FIELD(muzzy_decay_ms), JEMALLOC_LUA_DECAY_DEFAULT, -1,
     INTPTR_MAX / 1000000, nullptr, "milliseconds (-1: never, 0: at once) or default",
     "own arenas: time until unused muzzy pages go back"},
    {"thp", Kind::choice, FIELD(thp), JEMALLOC_LUA_THP_DEFAULT, 0, 2, thp_words, "default, always or never",
     "huge pages for the largest blocks"},
    {"scrub", Kind::boolean, FIELD(scrub), 0, 0, 1, bool_words, "true or false",
     "zero memory when it is freed and when the state closes"},
    {"harden", Kind::boolean, FIELD(harden), 0, 0, 1, bool_words, "true or false",
     "slab: end the process upon double free, wrong size, overwritten links"},
};
#undef FIELD

#define FIELD(name) offsetof(Settings, name), sizeof(Settings::name)
constexpr Spec settings_table[] = {
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

// sizeof(Options) of version 1.0, whose last field was `harden`.
constexpr std::size_t first_version_size =
    (offsetof(Options, harden) + sizeof(Options::harden) + alignof(Options) - 1) / alignof(Options) *
    alignof(Options);

// ---- Fields by their spec

std::int64_t get(const Options &options, const Spec &spec) {
    return read_field<int, std::int64_t>(options, spec.offset, spec.width);
}

template <class Struct>
void set(Struct &fields, const Spec &spec, std::int64_t value) {
    char *field = reinterpret_cast<char *>(&fields) + spec.offset;
    if (spec.width == sizeof(int)) {
        const int narrow = static_cast<int>(value);
        std::memcpy(field, &narrow, sizeof narrow);
    } else {
        std::memcpy(field, &value, sizeof value);
    }
}

// A text with its final NUL; false where it is empty or too long.
bool set_text(Settings &settings, const Spec &spec, string_view text) {
    if (text.empty() || text.size() >= spec.width) return false;
    char *field = reinterpret_cast<char *>(&settings) + spec.offset;
    std::memcpy(field, text.data(), text.size());
    field[text.size()] = '\0';
    return true;
}

bool in_range(const Spec &spec, std::int64_t value) {
    if (spec.kind == Kind::milliseconds && value == JEMALLOC_LUA_DECAY_DEFAULT) return true;
    if (value < spec.low || value > spec.high) return false;
    if (spec.kind == Kind::multiple_of_16) return value % 16 == 0;
    return spec.kind != Kind::power_of_two || std::has_single_bit(static_cast<std::uint64_t>(value));
}

// ---- Text to value

// A whole number with an optional unit K, M or G; false for anything else, overflow included.
bool read_size(string_view text, std::int64_t *value) {
    std::int64_t number = 0;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status != std::errc{} || text.starts_with('-')) return false;
    string_view unit = text.substr(static_cast<std::size_t>(rest - text.data()));
    std::int64_t scale = 1;
    if (unit == "K" || unit == "k") {
        scale = K;
    } else if (unit == "M" || unit == "m") {
        scale = M;
    } else if (unit == "G" || unit == "g") {
        scale = M * K;
    } else if (!unit.empty()) {
        return false;
    }
    return !__builtin_mul_overflow(number, scale, value);
}

bool read_number(string_view text, std::int64_t *value) {
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), *value);
    return status == std::errc{} && rest == text.data() + text.size();
}

bool read_word(const Word *words, string_view text, std::int64_t *value) {
    for (const Word *word = words; word != nullptr && !word->name.empty(); ++word) {
        if (word->name == text) {
            *value = word->value;
            return true;
        }
    }
    return false;
}

bool read_value(const Spec &spec, string_view text, std::int64_t *value) {
    switch (spec.kind) {
        case Kind::choice:
        case Kind::boolean:
            return read_word(spec.words, text, value);
        case Kind::arena:
            if (read_word(spec.words, text, value)) return true;
            return read_number(text, value) && *value >= 0;
        case Kind::size:
        case Kind::power_of_two:
        case Kind::multiple_of_16:
            return read_size(text, value);
        case Kind::percent:
            return read_number(text, value);
        case Kind::milliseconds:
            if (text == "default") {
                *value = JEMALLOC_LUA_DECAY_DEFAULT;
                return true;
            }
            return read_number(text, value);
        case Kind::text:
            break;
    }
    return false;
}

// ---- Value to text

void write_value(Text &text, const Spec &spec, std::int64_t value) {
    for (const Word *word = spec.words; word != nullptr && !word->name.empty(); ++word) {
        if (word->value == value) return text.add("%s", word->name.data());
    }
    if (spec.kind == Kind::milliseconds && value == JEMALLOC_LUA_DECAY_DEFAULT) return text.add("default");
    const char *unit = "";
    if (spec.kind == Kind::size || spec.kind == Kind::power_of_two || spec.kind == Kind::multiple_of_16) {
        for (const char *larger : {"K", "M", "G"}) {
            if (value == 0 || value % K != 0) break;
            value /= K;
            unit = larger;
        }
    }
    text.add("%" PRId64 "%s", value, unit);
}

// ---- Messages

struct Message {
    char *buf;
    std::size_t len;

    [[gnu::format(printf, 2, 3)]] int operator()(const char *format, ...) const {
        if (buf != nullptr && len > 0) {
            va_list args;
            va_start(args, format);
            std::vsnprintf(buf, len, format, args);
            va_end(args);
        }
        return EINVAL;
    }
};

int width_of(string_view text) {
    return static_cast<int>(text.size() < 64 ? text.size() : 64);
}

// A condition that spans options; what each takes on its own is checked by in_range().
int check_together(const Options &options, const Message &say) {
    if (options.tcache == JEMALLOC_LUA_TCACHE_THREAD && options.arena != JEMALLOC_LUA_ARENA_THREAD) {
        return say("tcache:thread is the cache of the thread's own arena: it takes arena:thread with it");
    }
    return 0;
}

bool is_quote(string_view text) {
    return text.starts_with('\'') || text.starts_with('"');
}

// The length of the first pair of conf: up to a comma that is not inside of a value in quotes.
std::size_t pair_length(string_view conf) {
    std::size_t from = std::min(conf.find_first_of(":,"), conf.size());
    if (from < conf.size() && conf[from] == ':' && is_quote(conf.substr(from + 1))) {
        from = std::min(conf.find(conf[from + 1], from + 2), conf.size());
    }
    return std::min(conf.find(',', from), conf.size());
}

// Takes the quotes off a value that has some; false where they are not closed, or something follows.
bool unquote(string_view *text) {
    if (!is_quote(*text)) return true;
    if (text->find(text->front(), 1) != text->size() - 1) return false;
    *text = text->substr(1, text->size() - 2);
    return true;
}

// Reads one pair into options; into settings as well, where they may be set.
int read_pair(Options &options, Settings *settings, string_view pair, const Message &say) {
    const std::size_t colon = pair.find(':');
    if (pair.empty()) return say("empty pair: options are key:value,key:value");
    if (colon == string_view::npos) {
        return say("'%.*s' has no value: options are key:value,key:value", width_of(pair), pair.data());
    }
    const string_view key = pair.substr(0, colon);
    string_view text = pair.substr(colon + 1);
    if (!unquote(&text)) {
        return say("%.*s: %.*s is not a value in quotes: it ends with the quote that it begins with",
                   width_of(key), key.data(), width_of(text), text.data());
    }
    char list[512];
    Text keys(list, sizeof list);
    const auto read = [&](const auto &specs, auto &fields) -> std::optional<int> {
        for (const Spec &spec : specs) {
            keys.add("%s%s", keys.length() == 0 ? "" : ", ", spec.key.data());
            if (spec.key != key) continue;
            std::int64_t value = 0;
            if constexpr (std::is_same_v<decltype(fields), Settings &>) {
                if (spec.kind == Kind::text && set_text(fields, spec, text)) return 0;
            }
            if (!read_value(spec, text, &value) || !in_range(spec, value)) {
                return say("%s: '%.*s' is not valid; it takes %s", spec.key.data(), width_of(text),
                           text.data(), spec.takes);
            }
            set(fields, spec, value);
            return 0;
        }
        return {};
    };
    if (const auto status = read(table, options)) return *status;
    if (settings != nullptr) {
        if (const auto status = read(settings_table, *settings)) return *status;
    } else {
        for (const Spec &spec : settings_table) {
            if (spec.key != key) continue;
            return say(
                "%s is of the process as a whole: it is read from the variable JEMALLOC_LUA_CONF alone",
                spec.key.data());
        }
    }
    return say("unknown key '%.*s'; the keys are %s", width_of(key), key.data(), list);
}

// Calls f(pair) for each of the pairs of conf until it returns non-zero, and returns that.
template <class F>
int each_pair(string_view conf, F &&f) {
    while (!conf.empty()) {
        const std::size_t length = pair_length(conf);
        if (const int status = f(conf.substr(0, length)); status != 0) return status;
        if (length == conf.size()) break;
        conf.remove_prefix(length + 1);
        if (conf.empty()) return f(conf);
    }
    return 0;
}

void report_on_stderr(const char *problem) {
    std::fprintf(stderr, "jemalloc_lua: JEMALLOC_LUA_CONF: %s\n", problem);
}

const Environment &environment() {
    static constinit Once<Environment> found;
    return found.get([] { return read_environment(std::getenv("JEMALLOC_LUA_CONF"), report_on_stderr); });
}

}  // namespace

Environment read_environment(const char *conf, void (*report)(const char *problem)) {
    Environment found;
    jemalloc_lua_options_init(&found.options);
    if (conf == nullptr) return found;
    char text[512];
    const Message say{text, sizeof text};
    each_pair(conf, [&](string_view pair) {
        if (read_pair(found.options, &found.settings, pair, say) != 0) report(text);
        return 0;
    });
    if (check_together(found.options, say) != 0) {
        report(text);
        found.options.tcache = JEMALLOC_LUA_TCACHE_OWN;
    }
    return found;
}

const Options &environment_options() {
    return environment().options;
}

const Settings &environment_settings() {
    return environment().settings;
}

int adopt_options(const Options *given, Options *out, char *err, std::size_t errlen) {
    const Message say{err, errlen};
    if (given == nullptr) return say("no options: jemalloc_lua_options_init() makes some");
    if (given->size < first_version_size) {
        return say("options.size is %zu: jemalloc_lua_options_init() sets it", given->size);
    }
    jemalloc_lua_options_init(out);
    std::memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
    out->size = sizeof *out;
    for (const Spec &spec : table) {
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
    jemalloc_lua_options_init_size(options, first_version_size);
}

void jemalloc_lua_options_init_size(jemalloc_lua_options *options, std::size_t size) {
    if (options == nullptr || size < sizeof options->size) return;
    Options defaults;
    std::memset(&defaults, 0, sizeof defaults);
    for (const Spec &spec : table) set(defaults, spec, spec.initial);
    defaults.size = size;
    std::memset(options, 0, size);
    std::memcpy(options, &defaults, std::min(size, sizeof defaults));
}

int jemalloc_lua_options_parse(jemalloc_lua_options *options, const char *conf, char *err,
                               std::size_t errlen) {
    const Message say{err, errlen};
    Options next;
    if (const int status = adopt_options(options, &next, err, errlen); status != 0) return status;
    if (conf == nullptr) return say("no text: options are key:value,key:value");
    int status = each_pair(conf, [&](string_view pair) { return read_pair(next, nullptr, pair, say); });
    if (status == 0) status = check_together(next, say);
    if (status == 0) {
        const std::size_t size = options->size;
        std::memcpy(options, &next, size < sizeof next ? size : sizeof next);
        options->size = size;
    }
    return status;
}

int jemalloc_lua_options_format(const jemalloc_lua_options *options, int all, char *buf, std::size_t len) {
    Text text(buf, len);
    Options now;
    if (adopt_options(options, &now, nullptr, 0) == 0) {
        for (const Spec &spec : table) {
            if (all == 0 && get(now, spec) == spec.initial) continue;
            text.add("%s%s:", text.length() == 0 ? "" : ",", spec.key.data());
            write_value(text, spec, get(now, spec));
        }
    }
    return text.length();
}

int jemalloc_lua_options_help(char *buf, std::size_t len) {
    Text text(buf, len);
    text.add("%-16s %-8s %s\n", "option", "default", "what it does, and takes");
    const auto add = [&](const Spec &spec) {
        char value[32];
        Text initial(value, sizeof value);
        write_value(initial, spec, spec.initial);
        text.add("%-16s %-8s %s:\n%-25s %s\n", spec.key.data(), value, spec.help, "", spec.takes);
    };
    for (const Spec &spec : table) add(spec);
    text.add("in JEMALLOC_LUA_CONF only:\n");
    for (const Spec &spec : settings_table) add(spec);
    return text.length();
}
