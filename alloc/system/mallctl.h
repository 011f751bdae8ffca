// jemalloc's MALLCTL NAMESPACE: names with an arena's index in them.
#pragma once

#include <sys/types.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "base/process.h"
#include "system/jemalloc.h"

namespace jemalloc_lua::je {

// A name such as "arena.<i>.purge", resolved to numbers once, so that a call compares no text.
class ArenaName {
  public:
    explicit constexpr ArenaName(const char *name, std::size_t index_at = 1)
        : name_(name), index_at_(index_at) {}

    int trigger(unsigned index) { return call(index, nullptr, nullptr, nullptr, 0); }

    template <class T>
    int write(unsigned index, T value) {
        return call(index, nullptr, nullptr, &value, sizeof value);
    }

    template <class T>
    int read(unsigned index, T *value) {
        std::size_t size = sizeof *value;
        return call(index, value, &size, nullptr, 0);
    }

  private:
    struct Mib {
        std::array<std::size_t, 4> numbers{};
        std::size_t length = 4;  // 0: jemalloc has no such name
    };

    int call(unsigned index, void *old, std::size_t *old_size, void *now, std::size_t now_size) {
        Mib mib = resolved_.get([this] {
            Mib found;
            if (mallctlnametomib(name_, found.numbers.data(), &found.length) != 0) found.length = 0;
            return found;
        });
        if (mib.length == 0) return ENOENT;
        mib.numbers[index_at_] = index;
        return mallctlbymib(mib.numbers.data(), mib.length, old, old_size, now, now_size);
    }

    const char *name_;
    std::size_t index_at_;
    Once<Mib> resolved_;
};

// All arenas' statistics, as they are now.
inline void refresh_statistics() {
    std::uint64_t epoch = 1;
    mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
}

}  // namespace jemalloc_lua::je
