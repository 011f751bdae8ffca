// Text for a caller's buffer, as snprintf() writes it: cut off where the buffer ends, and as long as it would
// have been. It takes no memory, so it does not fail either.
#pragma once

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
        std::size_t left = length_ < len_ ? len_ - length_ : 0;
#ifdef JEMALLOC_LUA_SEEDED_FAULT
        if (left > 0) ++left;
#endif
        va_list args;
        va_start(args, format);
        const int added = std::vsnprintf(left == 0 ? nullptr : buf_ + length_, left, format, args);
        va_end(args);
        if (added > 0) length_ += static_cast<std::size_t>(added);
    }

    int length() const {
        return static_cast<int>(length_);
    }

  private:
    char *buf_;
    std::size_t len_;
    std::size_t length_ = 0;
};

}  // namespace jemalloc_lua
