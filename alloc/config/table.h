// How config/ describes an option: a row of a table, which the checks, the reader of text, the printing and
// the help all read. Nothing outside of config/ includes this file.
#pragma once

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>

#include "base/field.h"
#include "base/text.h"
#include "config/options.h"

namespace jemalloc_lua::option {

enum class Kind { choice, arena, size, power_of_two, multiple_of_16, percent, milliseconds, boolean, text };

// A value that is written as a word. A list of them ends with one that has no name.
struct Word {
    std::string_view name;
    int value;
};

struct Spec {
    std::string_view key;
    Kind kind;
    std::size_t offset;
    std::size_t width;  // bytes of the field
    std::int64_t initial;
    std::int64_t low, high;
    const Word *words;
    const char *takes;
    const char *help;
};

// The options of a heap, in the order of the fields of jemalloc_lua_options.
std::span<const Spec> of_heap();

// The options of the process as a whole, which only JEMALLOC_LUA_CONF sets.
std::span<const Spec> of_process();

// Whether an option takes a value.
bool in_range(const Spec &spec, std::int64_t value);

inline std::int64_t get(const Options &options, const Spec &spec) {
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

// A message for a caller's buffer, which may be null. Calls return EINVAL.
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

// What each option takes is checked by in_range(); this checks the options that depend on each other.
int check_together(const Options &options, const Message &say);

// Reads one pair of key:value text into options. It may set the process's options too where `settings` is not
// null. 0, or EINVAL with a message.
int read_pair(Options &options, Settings *settings, std::string_view pair, const Message &say);

// The length of the first pair of `conf`: up to a comma that is not inside of a value in quotes.
std::size_t pair_length(std::string_view conf);

// Calls f(pair) for each of the pairs of conf until it returns non-zero, and returns that.
template <class F>
int each_pair(std::string_view conf, F &&f) {
    while (!conf.empty()) {
        const std::size_t length = pair_length(conf);
        if (const int status = f(conf.substr(0, length)); status != 0) return status;
        if (length == conf.size()) break;
        conf.remove_prefix(length + 1);
        if (conf.empty()) return f(conf);
    }
    return 0;
}

void write_value(Text &text, const Spec &spec, std::int64_t value);

}  // namespace jemalloc_lua::option
