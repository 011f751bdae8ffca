// Text for a caller's buffer, as snprintf() writes it: cut off at the buffer's end, its full length known.
// Adding text takes no memory, so it cannot fail.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstddef>
#include <cstdio>

namespace jemalloc_lua {

class Text {
  public:
    Text(char *buf, std::size_t len) : buf_(buf), len_(buf == nullptr ? 0 : len) {
        if (len_ > 0) buf_[0] = '\0';
    }

    [[gnu::format(printf, 2, 3)]] void add(const char *format, ...) {
        va_list args;
        va_start(args, format);
        add_list(format, args);
        va_end(args);
    }

    [[gnu::format(printf, 2, 0)]] void add_list(const char *format, va_list args) {
        const std::size_t left = length_ < len_ ? len_ - length_ : 0;
        const int added = std::vsnprintf(left == 0 ? nullptr : buf_ + length_, left, format, args);
        if (added > 0) length_ += static_cast<std::size_t>(added);
    }

    // Bytes of the whole text, without its NUL.
    int length() const { return static_cast<int>(length_); }
    // Bytes of it that fit the buffer.
    std::size_t written() const { return len_ == 0 ? 0 : std::min(length_, len_ - 1); }

  private:
    char *buf_;
    std::size_t len_;
    std::size_t length_ = 0;
};

}  // namespace jemalloc_lua
