// Options as text: "key:value,key:value" read and printed, and the help.

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

#include "config/table.h"

namespace jemalloc_lua::option {
namespace {

using std::string_view;

constexpr std::int64_t K = 1024;

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
        scale = K * K;
    } else if (unit == "G" || unit == "g") {
        scale = K * K * K;
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

// A text with its final NUL; false where it is empty or too long.
bool set_text(Settings &settings, const Spec &spec, string_view text) {
    if (text.empty() || text.size() >= spec.width) return false;
    char *field = reinterpret_cast<char *>(&settings) + spec.offset;
    std::memcpy(field, text.data(), text.size());
    field[text.size()] = '\0';
    return true;
}

bool is_quote(string_view text) {
    return text.starts_with('\'') || text.starts_with('"');
}

// Takes the quotes off a value that has some; false where they are not closed, or something follows.
bool unquote(string_view *text) {
    if (!is_quote(*text)) return true;
    if (text->find(text->front(), 1) != text->size() - 1) return false;
    *text = text->substr(1, text->size() - 2);
    return true;
}

int width_of(string_view text) {
    return static_cast<int>(text.size() < 64 ? text.size() : 64);
}

}  // namespace

std::size_t pair_length(string_view conf) {
    std::size_t from = std::min(conf.find_first_of(":,"), conf.size());
    if (from < conf.size() && conf[from] == ':' && is_quote(conf.substr(from + 1))) {
        from = std::min(conf.find(conf[from + 1], from + 2), conf.size());
    }
    return std::min(conf.find(',', from), conf.size());
}

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
    if (const auto status = read(of_heap(), options)) return *status;
    if (settings != nullptr) {
        if (const auto status = read(of_process(), *settings)) return *status;
    } else {
        for (const Spec &spec : of_process()) {
            if (spec.key != key) continue;
            return say(
                "%s is of the process as a whole: it is read from the variable JEMALLOC_LUA_CONF alone",
                spec.key.data());
        }
    }
    return say("unknown key '%.*s'; the keys are %s", width_of(key), key.data(), list);
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

}  // namespace jemalloc_lua::option

// ---- C API

using namespace jemalloc_lua;
using namespace jemalloc_lua::option;

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
        for (const Spec &spec : of_heap()) {
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
    for (const Spec &spec : of_heap()) add(spec);
    text.add("in JEMALLOC_LUA_CONF only:\n");
    for (const Spec &spec : of_process()) add(spec);
    return text.length();
}
