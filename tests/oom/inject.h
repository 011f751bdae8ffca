// Refusals on purpose: the n-th request at one of the points where memory may run out.
//
// Nothing in the library knows of this. The linker's --wrap sends the library's calls of jemalloc, those of
// jemalloc of the system, and those of the library of LuaJIT through inject.cpp, so what is tested is the
// library as it is released.
#pragma once

#include <cstddef>
#include <cstdint>

namespace oom {

enum class Point : std::uint8_t {
    none,
    request,   // Lua's requests of the state's allocator that ask for more, once the state is there
    jemalloc,  // mallocx, rallocx, xallocx: the library's, and the module's
    mmap,      // jemalloc's and the library's
    mremap,
    arena,   // arenas.create
    tcache,  // tcache.create
};

struct Refusal {
    Point point = Point::none;
    std::uint64_t nth = 0;  // 1: the first request
    bool lasting = false;   // and all that follow
    std::size_t size = 0;   // of Lua's requests only those for a new block of so many bytes; 0: of all
};

// Requests that compiled code makes are not refused, but the next one that it does not make is. For LuaJITs
// that crash otherwise (luajit_faults.cpp).
inline bool spare_compiled_code = false;

void arm(Refusal refusal);

// Back to normal. How many requests were refused since arm().
std::uint64_t disarm();

// The first request of Lua's that got nothing.
struct FailedRequest {
    std::uint64_t number = 0;  // as Point::request counts; 0: there was none
    std::size_t size = 0;      // of the new block; 0: it was a resize
};

// Where it is written at once: for who comes after a crash.
inline FailedRequest *failed_request = nullptr;

// Between the two nothing is refused, nor counted.
void pause();
void resume();

}  // namespace oom
