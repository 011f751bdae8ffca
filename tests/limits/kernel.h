// A kernel that has less than this one: what the library and its jemalloc ask of the system goes through
// kernel.cpp, by the linker's --wrap, and is refused there as asked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernel {

struct Lacks {
    bool dontunmap = false;   // MREMAP_DONTUNMAP: before Linux 5.7
    bool mremap = false;      // any mremap()
    bool huge_pages = false;  // advice about them, where the kernel was built without
    std::size_t writable =
        SIZE_MAX;  // bytes of writable memory that may be mapped from now on: a strict overcommit
};

inline Lacks lacks;

// How often something was refused.
inline std::uint64_t refused = 0;

// The variable that makes jemalloc find, when the process starts, a kernel that does not overcommit
// (vm.overcommit_memory = 2): it then reserves address space and commits its pages one by one.
inline constexpr const char *strict_variable = "JEMALLOC_LUA_TEST_STRICT_OVERCOMMIT";

}  // namespace kernel
