// The only file that includes jemalloc's header.
//
// jemalloc's own header maps the names je_* to whatever prefix the library was built with (none, for the
// system's), so the wrappers below serve both the bundled and the system jemalloc.
#pragma once

// Else the header takes the je_* names away again at its end.
#define JEMALLOC_NO_DEMANGLE
#include <jemalloc/jemalloc.h>

#include <cstddef>
#include <cstdint>

#include "system/flags.h"

namespace jemalloc_lua::je {

// flags.h against the header.
static_assert(MALLOCX_LG_ALIGN(12) == align_flag(4096) && MALLOCX_ZERO == zero_flag);
static_assert(MALLOCX_TCACHE_NONE == no_tcache_flag && MALLOCX_TCACHE(7) == tcache_flag(7));
static_assert(MALLOCX_ARENA(7) == arena_flag(7) && MALLCTL_ARENAS_ALL == all_arenas);

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

// Reads a value of jemalloc's MALLCTL NAMESPACE; zero where the name is unknown.
template <class T>
T read(const char *name) {
    T value{};
    std::size_t size = sizeof value;
    return je::mallctl(name, &value, &size, nullptr, 0) == 0 ? value : T{};
}

}  // namespace jemalloc_lua::je
