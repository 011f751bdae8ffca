// What AddressSanitizer and Valgrind's memcheck are told of blocks. Everything here is empty where neither is
// there; memcheck is compiled in where <valgrind/memcheck.h> is found.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define JEMALLOC_LUA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JEMALLOC_LUA_ASAN 1
#endif
#endif

#if defined(JEMALLOC_LUA_ASAN)
#include <sanitizer/asan_interface.h>
#elif __has_include(<valgrind/memcheck.h>)
#define JEMALLOC_LUA_MEMCHECK 1
#include <valgrind/memcheck.h>
#endif

namespace jemalloc_lua::tools {

// AddressSanitizer knows the end of a block to the byte, within the 16 bytes that blocks are aligned to, so
// it needs no red zone, and blocks keep their sizes.
#if defined(JEMALLOC_LUA_ASAN)
inline constexpr bool is_exact = true;
#else
inline constexpr bool is_exact = false;
#endif

// Whether one of the two watches this process.
inline bool watching() {
#if defined(JEMALLOC_LUA_ASAN)
    return true;
#elif defined(JEMALLOC_LUA_MEMCHECK)
    char byte = 0;  // other tools of Valgrind's do not answer this
    return VALGRIND_MAKE_MEM_DEFINED(&byte, 1) != 0;
#else
    return false;
#endif
}

// The blocks of a heap are a pool to memcheck, with so many bytes between them that nobody may touch.
inline void begin_pool([[maybe_unused]] const void *pool, [[maybe_unused]] std::size_t red_zone) {
#ifdef JEMALLOC_LUA_MEMCHECK
    VALGRIND_CREATE_MEMPOOL(pool, red_zone, 0);
#endif
}
inline void end_pool([[maybe_unused]] const void *pool) {
#ifdef JEMALLOC_LUA_MEMCHECK
    VALGRIND_DESTROY_MEMPOOL(pool);
#endif
}

// A new block of `size` bytes; `red_zone` bytes after it are nobody's.
inline void begin_block([[maybe_unused]] const void *pool, [[maybe_unused]] void *block,
                        [[maybe_unused]] std::size_t size, [[maybe_unused]] std::size_t red_zone) {
#if defined(JEMALLOC_LUA_ASAN)
    ASAN_UNPOISON_MEMORY_REGION(block, size);
    ASAN_POISON_MEMORY_REGION(static_cast<char *>(block) + size, (16 - size % 16) % 16);
#elif defined(JEMALLOC_LUA_MEMCHECK)
    VALGRIND_MEMPOOL_ALLOC(pool, block, size);
    (void)VALGRIND_MAKE_MEM_NOACCESS(static_cast<char *>(block) + size, red_zone);
#endif
}

// A block is freed: nobody may touch it until forget().
inline void end_block([[maybe_unused]] const void *pool, [[maybe_unused]] void *block,
                      [[maybe_unused]] std::size_t size) {
#if defined(JEMALLOC_LUA_ASAN)
    ASAN_POISON_MEMORY_REGION(block, size);
#elif defined(JEMALLOC_LUA_MEMCHECK)
    VALGRIND_MEMPOOL_FREE(pool, block);
#endif
}

// The first bytes of a block have contents.
inline void define([[maybe_unused]] void *block, [[maybe_unused]] std::size_t size) {
#ifdef JEMALLOC_LUA_MEMCHECK
    (void)VALGRIND_MAKE_MEM_DEFINED(block, size);
#endif
}

// The memory of a block and its red zone is the allocator's again.
inline void forget([[maybe_unused]] void *memory, [[maybe_unused]] std::size_t size) {
#if defined(JEMALLOC_LUA_ASAN)
    ASAN_UNPOISON_MEMORY_REGION(memory, (size + 15) / 16 * 16);
#elif defined(JEMALLOC_LUA_MEMCHECK)
    (void)VALGRIND_MAKE_MEM_DEFINED(memory, size);
#endif
}

// While it lives, memcheck reports nothing: to free a block of a pool forbids the 16 bytes before it as well,
// which may be the end of an extent that the front moves as a whole.
class Quiet {
  public:
#ifdef JEMALLOC_LUA_MEMCHECK
    Quiet() {
        VALGRIND_DISABLE_ERROR_REPORTING;
    }
    ~Quiet() {
        VALGRIND_ENABLE_ERROR_REPORTING;
    }
#else
    Quiet() {}  // NOLINT(modernize-use-equals-default): else unused
#endif
    Quiet(const Quiet &) = delete;
    Quiet &operator=(const Quiet &) = delete;
};

}  // namespace jemalloc_lua::tools
