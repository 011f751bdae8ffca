// Valgrind's memcheck and the slab heap: under memcheck each block is told to it, with 16 bytes after it that
// are nobody's, so that it finds reads and writes past the end and of freed blocks as it does for malloc.
//
// A heap's allocator function is then another one, chosen when the state is made, that tells memcheck and
// calls the heap's own; nothing is asked on the way of a request otherwise. Compiled in where
// <valgrind/memcheck.h> is there.
#pragma once

#include "heap/heap.h"

#if __has_include(<valgrind/memcheck.h>)
#define JEMALLOC_LUA_MEMCHECK 1
#include <valgrind/memcheck.h>
#endif

namespace jemalloc_lua::memcheck {

// Memory that goes back to jemalloc: what comes next in it may use it.
inline void forget([[maybe_unused]] void *memory, [[maybe_unused]] std::size_t size) {
#ifdef JEMALLOC_LUA_MEMCHECK
    (void)VALGRIND_MAKE_MEM_DEFINED(memory, size);
#endif
}

// The allocator reads and writes the free blocks and its own headers between them: no errors of the
// program's.
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
    Quiet() {}
#endif
    Quiet(const Quiet &) = delete;
    Quiet &operator=(const Quiet &) = delete;
};

// The allocator function that a heap's owner is to call: the front end's, or under memcheck the one that
// watches it.
lua_Alloc entry(const Heap *heap);
// Whether it is the latter.
bool is_entry(lua_Alloc f);
// The front end's destroy(), after memcheck was told.
void destroy(Heap *heap);

}  // namespace jemalloc_lua::memcheck
