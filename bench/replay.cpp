// The replay loops, and how the floor lays out its blocks.

#include "replay.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <map>
#include <new>
#include <queue>

#include "state/inside.h"

namespace jemalloc_lua::bench {
namespace {

// Hands out addresses without memory behind them: the lowest free one of the class, else the next of a run of
// its own. An offset is where the block would lie in one region.
class Layout {
  public:
    std::uint64_t take(std::size_t size) {
        Class &own = classes_[je::size_class(size)];
        if (!own.free.empty()) {
            const std::uint64_t offset = own.free.top();
            own.free.pop();
            return offset;
        }
        const std::size_t block = je::size_class(size);
        if (own.next + block > own.end) {
            const std::size_t run = std::max<std::size_t>(32 * 1024, (block + page - 1) & ~(page - 1));
            own.next = span_;
            own.end = span_ += run;
        }
        const std::uint64_t offset = own.next;
        own.next += block;
        return offset;
    }

    void give(std::uint64_t offset, std::size_t size) { classes_[je::size_class(size)].free.push(offset); }

    std::size_t span() const { return span_; }

  private:
    struct Class {
        std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> free;
        std::uint64_t next = 0;
        std::uint64_t end = 0;
    };

    std::map<std::size_t, Class> classes_;
    std::size_t span_ = 0;
};

}  // namespace

bool Replay::run(const Heap &heap) {
    const lua_Alloc alloc = heap.alloc;
    void *const ud = heap.ud;
    void **const blocks = blocks_.data();
    std::uint64_t sum = 0;
    for (const Request &request : trace_.requests) {
        void *&block = blocks[request.slot()];
        switch (request.op()) {
            case Op::malloc:
                block = alloc(ud, nullptr, 0, request.new_size);
                if (block == nullptr) [[unlikely]] {
                    free_all(heap, static_cast<std::size_t>(&request - trace_.requests.data()));
                    return false;
                }
                touch_new(block, request.new_size);
                break;
            case Op::free:
                sum += touch_freed(block);
                alloc(ud, block, request.old_size, 0);
                break;
            case Op::realloc:
                void *moved = alloc(ud, block, request.old_size, request.new_size);
                if (moved == nullptr) [[unlikely]] {
                    free_all(heap, static_cast<std::size_t>(&request - trace_.requests.data()));
                    return false;
                }
                block = moved;
                touch_grown(block, request.old_size, request.new_size);
                break;
        }
    }
    sum_ += sum;
    return true;
}

// After a refusal of request number `done`: frees what is alive.
void Replay::free_all(const Heap &heap, std::size_t done) {
    std::vector<std::size_t> sizes(trace_.slots);
    for (std::size_t i = 0; i < done; ++i) sizes[trace_.requests[i].slot()] = trace_.requests[i].new_size;
    for (std::size_t slot = 0; slot < sizes.size(); ++slot) {
        if (sizes[slot] != 0) heap.request(blocks_[slot], sizes[slot], 0);
    }
}

Ballast::Ballast(const Heap &heap, std::size_t bytes) : heap_(heap), blocks_(bytes / block_size) {
    for (void *&block : blocks_) {
        block = heap.request(nullptr, 0, block_size);
        if (block != nullptr) touch_new(block, block_size);
    }
}

Ballast::~Ballast() {
    for (void *block : blocks_) {
        if (block != nullptr) heap_.request(block, block_size, 0);
    }
}

Floor::Floor(const Trace &trace) : trace_(trace), blocks_(trace.slots) {
    Layout layout;
    std::vector<std::uint64_t> now(trace.slots);
    offsets_.reserve(trace.requests.size());
    for (const Request &request : trace.requests) {
        std::uint64_t &offset = now[request.slot()];
        if (request.op() == Op::malloc) {
            offset = layout.take(request.new_size);
        } else if (request.op() == Op::free) {
            layout.give(offset, request.old_size);
        } else if (je::size_class(request.old_size) != je::size_class(request.new_size)) {
            layout.give(offset, request.old_size);
            offset = layout.take(request.new_size);
        }
        offsets_.push_back(offset);
    }
    span_ = std::max(layout.span(), page);
    void *memory =
        mmap(nullptr, span_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<unsigned char *>(memory);
}

Floor::~Floor() {
    munmap(memory_, span_);
}

void Floor::run() {
    void **const blocks = blocks_.data();
    const std::uint64_t *offset = offsets_.data();
    std::uint64_t sum = 0;
    for (const Request &request : trace_.requests) {
        void *&block = blocks[request.slot()];
        switch (request.op()) {
            case Op::malloc:
                block = memory_ + *offset;
                touch_new(block, request.new_size);
                break;
            case Op::free:
                sum += touch_freed(block);
                break;
            case Op::realloc:
                block = memory_ + *offset;
                touch_grown(block, request.old_size, request.new_size);
                break;
        }
        ++offset;
    }
    sum_ += sum;
}

}  // namespace jemalloc_lua::bench
