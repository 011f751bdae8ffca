// Collects the addresses of jemalloc's functions under their names without prefix.

#include "system/provider.h"

#include <cstring>

#include "system/jemalloc.h"

namespace jemalloc_lua::je {
namespace {

// The name that jemalloc's header gave to je_mallocx, less "mallocx".
#define JEMALLOC_LUA_TEXT_OF(name) #name
#define JEMALLOC_LUA_TEXT(name) JEMALLOC_LUA_TEXT_OF(name)
constexpr const char *own_name = JEMALLOC_LUA_TEXT(je_mallocx);

template <class F>
void *address(F *function) {
    return reinterpret_cast<void *>(function);
}

}  // namespace

const char *const prefix = std::strcmp(own_name, "mallocx") == 0 ? "" : "je_";

const Function functions[] = {
    {"mallocx", address(::je_mallocx)},
    {"rallocx", address(::je_rallocx)},
    {"xallocx", address(::je_xallocx)},
    {"sallocx", address(::je_sallocx)},
    {"dallocx", address(::je_dallocx)},
    {"sdallocx", address(::je_sdallocx)},
    {"nallocx", address(::je_nallocx)},
    {"mallctl", address(::je_mallctl)},
    {"mallctlnametomib", address(::je_mallctlnametomib)},
    {"mallctlbymib", address(::je_mallctlbymib)},
    {"malloc_stats_print", address(::je_malloc_stats_print)},
    {"malloc_usable_size", address(::je_malloc_usable_size)},
    {"malloc", address(::je_malloc)},
    {"calloc", address(::je_calloc)},
    {"posix_memalign", address(::je_posix_memalign)},
    {"aligned_alloc", address(::je_aligned_alloc)},
    {"realloc", address(::je_realloc)},
    {"free", address(::je_free)},
    {nullptr, nullptr},
};

}  // namespace jemalloc_lua::je
