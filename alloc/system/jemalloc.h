// The only file that includes jemalloc's header.
//
// jemalloc's own header maps the names je_* to whatever prefix the library was built with (none, for the
// system's), so the wrappers below serve both the bundled and the system jemalloc.
#pragma once

// Else the header takes the je_* names away again at its end.
#define JEMALLOC_NO_DEMANGLE
#include <jemalloc/jemalloc.h>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace jemalloc_lua::je {

// Flags of the *allocx() family. Those of MALLOCX_ARENA and MALLOCX_TCACHE always go together here: without
// a tcache flag the thread's automatic tcache may answer with memory of another arena.
constexpr int align_flag(std::size_t alignment) {
    return std::countr_zero(alignment);
}
constexpr int zero_flag = MALLOCX_ZERO;
constexpr int arena_flag(unsigned index) {
    return static_cast<int>((index + 1) << 20);
}
constexpr int tcache_flag(unsigned id) {
    return static_cast<int>((id + 2) << 8);
}
constexpr int no_tcache_flag = MALLOCX_TCACHE_NONE;

inline void *mallocx(std::size_t size, int flags) {
    return ::je_mallocx(size, flags);
}
inline void *rallocx(void *ptr, std::size_t size, int flags) {
    return ::je_rallocx(ptr, size, flags);
}
inline std::size_t xallocx(void *ptr, std::size_t size, std::size_t extra, int flags) {
    return ::je_xallocx(ptr, size, extra, flags);
}
inline std::size_t sallocx(const void *ptr, int flags) {
    return ::je_sallocx(ptr, flags);
}
inline void dallocx(void *ptr, int flags) {
    ::je_dallocx(ptr, flags);
}
inline void sdallocx(void *ptr, std::size_t size, int flags) {
    ::je_sdallocx(ptr, size, flags);
}
inline std::size_t nallocx(std::size_t size, int flags) {
    return ::je_nallocx(size, flags);
}

inline int mallctl(const char *name, void *old, std::size_t *old_size, void *now, std::size_t now_size) {
    return ::je_mallctl(name, old, old_size, now, now_size);
}
inline int mallctlnametomib(const char *name, std::size_t *mib, std::size_t *length) {
    return ::je_mallctlnametomib(name, mib, length);
}
inline int mallctlbymib(const std::size_t *mib, std::size_t length, void *old, std::size_t *old_size,
                        void *now, std::size_t now_size) {
    return ::je_mallctlbymib(mib, length, old, old_size, now, now_size);
}

// Reads a value of jemalloc's MALLCTL NAMESPACE; the fallback where the name is unknown.
template <class T>
T read(const char *name, T fallback = {}) {
    T value{};
    std::size_t size = sizeof value;
    return je::mallctl(name, &value, &size, nullptr, 0) == 0 ? value : fallback;
}

// The bytes that jemalloc hands out for a request of `size` bytes (1 to PTRDIFF_MAX), with no alignment
// asked for: 16-byte steps up to 128, then four steps to each doubling. As nallocx(size, 0), which a test
// compares it with, but inline; requests below 16 are taken as 16, the alignment that every block has.
constexpr std::size_t size_class(std::size_t size) {
    if (size <= 16) return 16;
    const int ceil_lg = std::bit_width(size - 1);
    const std::size_t step = std::size_t{1} << (ceil_lg < 7 ? 4 : ceil_lg - 3);
    return (size + step - 1) & ~(step - 1);
}

}  // namespace jemalloc_lua::je
