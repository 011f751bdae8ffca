// Replays a recording in a heap, touching each block as Lua does.
//
// A new block is written at both ends (an object's header, its last field) and once in each page; a freed one
// is read at its start (the sweep reads the header); a grown one is written in its new part. So a replay
// pays for the cache and page misses that an allocator's choice of addresses causes in the program.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "allocators.h"
#include "trace.h"

namespace jemalloc_lua::bench {

constexpr std::size_t page = 4096;

inline void touch_range(unsigned char *block, std::size_t from, std::size_t to) {
    for (std::size_t at = (from + page - 1) & ~(page - 1); at < to; at += page) block[at] = 1;
}

inline void touch_new(void *block, std::size_t size) {
    auto *bytes = static_cast<unsigned char *>(block);
    const std::uint64_t mark = size;
    if (size >= sizeof mark) {
        std::memcpy(bytes, &mark, sizeof mark);
        std::memcpy(bytes + size - sizeof mark, &mark, sizeof mark);
    } else {
        bytes[0] = 1;
    }
    if (size > page) [[unlikely]]
        touch_range(bytes, page, size);
}

inline void touch_grown(void *block, std::size_t old_size, std::size_t new_size) {
    auto *bytes = static_cast<unsigned char *>(block);
    bytes[0] = 1;
    if (new_size > old_size) {
        bytes[new_size - 1] = 1;
        if (new_size > page) touch_range(bytes, old_size, new_size);
    }
}

inline std::uint64_t touch_freed(const void *block) {
    return *static_cast<const volatile unsigned char *>(block);
}

// Does all requests of a trace on an allocator.
class Replay {
  public:
    explicit Replay(const Trace &trace) : trace_(trace), blocks_(trace.slots) {}

    // False when the allocator refused a request; everything is then freed again.
    bool run(const Heap &heap);

  private:
    void free_all(const Heap &heap, std::size_t done);

    const Trace &trace_;
    std::vector<void *> blocks_;
    std::uint64_t sum_ = 0;  // of what touch_freed() read, so that the reads are made
};

// Blocks that stay alive while a trace is replayed again and again, as many bytes as the trace has at its
// peak: what a program keeps from one phase to the next. Without them every replay's end is the end of all
// data, where a heap that gives memory back does so, and the next replay measures the kernel's page faults.
class Ballast {
  public:
    Ballast(const Heap &heap, std::size_t bytes);
    ~Ballast();
    Ballast(const Ballast &) = delete;
    Ballast &operator=(const Ballast &) = delete;
    Ballast(Ballast &&) = default;

  private:
    static constexpr std::size_t block_size = 1024;

    const Heap &heap_;
    std::vector<void *> blocks_;  // some may be null: fewer then
};

// The floor: the same replay with every address known beforehand, that is, the loop and the touching alone.
// Each block lies at the lowest free address of its size class, the densest that a heap without moving can
// be.
class Floor {
  public:
    explicit Floor(const Trace &trace);
    ~Floor();
    Floor(const Floor &) = delete;
    Floor &operator=(const Floor &) = delete;

    void run();

  private:
    const Trace &trace_;
    std::vector<std::uint64_t> offsets_;  // of each request's block (the new one of a realloc)
    unsigned char *memory_ = nullptr;
    std::size_t span_ = 0;
    std::vector<void *> blocks_;
    std::uint64_t sum_ = 0;
};

}  // namespace jemalloc_lua::bench
