// When buffers push the garbage collector, which does not see their bytes.
//
// This is the arithmetic; buffer.cpp runs the collector. Between two cycles as many bytes may come in as are
// held, which is what the collector allows for its own memory, or half of the room below the heap's limit if
// that is less. From then on the collector is due for steps in proportion to what comes in, so that dropped
// buffers do not pile up. The work of a step is by the collector's speed, which the heap raises above its
// soft limit: so the heap alone decides how hard the collector is pushed, by Lua's own memory and by buffers.
#pragma once

#include <algorithm>
#include <cstdint>

namespace jemalloc_lua {

class Pressure {
  public:
    void enter(std::int64_t bytes) {
        held_ += bytes;
        come_in_ += bytes;
    }

    // What goes was new since the last cycle, or else is among what the collector was to leave time for.
    void leave(std::int64_t bytes) {
        held_ -= bytes;
        if (come_in_ >= bytes) {
            come_in_ -= bytes;
        } else {
            next_step_ = std::max(min_allowance, next_step_ - bytes);
        }
    }

    // `room`: the bytes that the heap's limit leaves.
    bool is_due(std::int64_t room) const {
        return come_in_ >= next_step_ || (!in_cycle_ && come_in_ >= std::max(room, step_bytes));
    }

    // The bytes of new memory for which the collector is to be stepped.
    std::int64_t step() const { return std::max<std::int64_t>(come_in_ - next_step_, 0) + step_bytes; }
    void has_stepped() {
        in_cycle_ = true;
        next_step_ = come_in_ + step_bytes;
    }
    // `collected`: the bytes of memory that the collector sees.
    void has_ended_cycle(std::int64_t collected) {
        in_cycle_ = false;
        come_in_ = 0;
        next_step_ = std::max(min_allowance, held_ + collected);
    }

    // Bytes in buffers; dropped ones count until they are collected.
    std::int64_t held() const { return held_; }

  private:
    static constexpr std::int64_t min_allowance = 8 << 20;
    static constexpr std::int64_t step_bytes = 256 << 10;

    std::int64_t held_ = 0;
    std::int64_t come_in_ = 0;  // since the last cycle ended
    std::int64_t next_step_ = min_allowance;
    bool in_cycle_ = false;  // begun by a step
};

}  // namespace jemalloc_lua
