// What the kernel knows about this process: memory and page faults.
#pragma once

#include <cstddef>

namespace jemalloc_lua::bench {

struct ProcessUse {
    double user_s = 0;      // processor time in user mode, seconds
    double system_s = 0;    // and in the kernel
    long minor_faults = 0;  // pages touched for the first time
    long major_faults = 0;
};

ProcessUse process_use();
std::size_t resident_bytes();       // now
std::size_t peak_resident_bytes();  // since the program began

}  // namespace jemalloc_lua::bench
