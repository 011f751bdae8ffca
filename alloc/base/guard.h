// A guard: a cache line of random words on each side of something that stray writes must not change unseen.
// Each word depends on its address and on the key, so a guard copied from elsewhere is not whole.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

inline constexpr std::size_t guard_size = 64;

inline std::uintptr_t guard_word(std::uintptr_t key, const std::uintptr_t *word) {
    return key ^ reinterpret_cast<std::uintptr_t>(word);
}

inline void build_guard(std::uintptr_t key, void *guard) {
    auto *words = static_cast<std::uintptr_t *>(guard);
    for (std::size_t i = 0; i < guard_size / sizeof *words; ++i) words[i] = guard_word(key, &words[i]);
}

inline bool is_whole(std::uintptr_t key, const void *guard) {
    const auto *words = static_cast<const std::uintptr_t *>(guard);
    std::uintptr_t difference = 0;
    for (std::size_t i = 0; i < guard_size / sizeof *words; ++i)
        difference |= words[i] ^ guard_word(key, &words[i]);
    return difference == 0;
}

}  // namespace jemalloc_lua
