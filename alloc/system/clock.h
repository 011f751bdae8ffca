// Time that passes, as seen by the thread that uses a heap.
#pragma once

#include <cstdint>

namespace jemalloc_lua {

class Stopwatch {
  public:
    struct Lap {
        std::uint64_t processor_ns;  // of the thread, at most wall_ns
        std::uint64_t wall_ns;
    };

    // Since the last lap; nothing for the first one. Asks the kernel once in a tick of its coarse clock, some
    // milliseconds, and costs some 20 ns otherwise. A heap may come from another thread: what that one has
    // used before does not count.
    Lap lap();

  private:
    std::uint64_t wall_ns_ = 0;
    std::uint64_t processor_ns_ = 0;
};

}  // namespace jemalloc_lua
