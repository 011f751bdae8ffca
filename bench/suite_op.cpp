// op/*: patterns of single requests through a lua_Alloc. The time of one iteration is that of a whole batch;
// items are requests, so items_per_second is what to compare.

#include <algorithm>
#include <random>

#include "replay.h"
#include "suites.h"

namespace jemalloc_lua::bench {
namespace {

constexpr std::size_t batch = 4000;  // blocks alive at once, at most

// As many as stay in a core's own cache: what memory costs beyond is for traces and programs to tell, and
// varies here with where the pages happen to lie.
constexpr std::size_t batch_of(std::size_t size) {
    constexpr std::size_t cached = std::size_t{512} << 10;
    return std::min(batch, cached / size);
}

// malloc, then free at once.
void pair(benchmark::State &state, const Allocator &allocator, std::size_t size) {
    const auto heap = allocator.make_heap();
    for (auto _ : state) {
        void *block = heap->request(nullptr, 0, size);
        touch_new(block, std::min(size, page));
        heap->request(block, size, 0);
    }
    state.SetItemsProcessed(2 * state.iterations());
}

enum class Order { lifo, fifo, random };

// As many blocks as a batch has, alive all the while, with room for another between each two: a heap that is
// empty between batches may give all its memory back, or not, as it happens to lie.
class Ballast {
  public:
    Ballast(Heap &heap, std::size_t size) : heap_(heap), size_(size) {
        std::vector<void *> between(batch_of(size));
        for (void *&block : between) {
            blocks_.push_back(request());
            block = request();
        }
        for (void *block : between) heap.request(block, size, 0);
    }
    Ballast(const Ballast &) = delete;
    Ballast &operator=(const Ballast &) = delete;
    ~Ballast() {
        for (void *block : blocks_) heap_.request(block, size_, 0);
    }

  private:
    void *request() {
        void *block = heap_.request(nullptr, 0, size_);
        touch_new(block, size_);
        return block;
    }

    Heap &heap_;
    std::size_t size_;
    std::vector<void *> blocks_;
};

// A batch is allocated, then freed in this order.
void batches(benchmark::State &state, const Allocator &allocator, std::size_t size, Order order) {
    const auto heap = allocator.make_heap();
    const Ballast ballast(*heap, size);
    const std::size_t count = batch_of(size);
    std::vector<std::size_t> places(count);
    for (std::size_t i = 0; i < count; ++i) places[i] = order == Order::lifo ? count - 1 - i : i;
    if (order == Order::random) std::shuffle(places.begin(), places.end(), std::mt19937(1));
    std::vector<void *> blocks(count);
    for (auto _ : state) {
        for (void *&block : blocks) {
            block = heap->request(nullptr, 0, size);
            touch_new(block, size);
        }
        for (const std::size_t place : places) {
            benchmark::DoNotOptimize(touch_freed(blocks[place]));
            heap->request(blocks[place], size, 0);
        }
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(2 * count) * state.iterations());
}

// As a garbage collector frees: objects of the sizes that LuaJIT asks for (strings, closures, upvalues,
// tables and their hash parts) stand in a list, newest first; a sweep walks it and frees two thirds; then as
// many new ones are put in front.
void sweep(benchmark::State &state, const Allocator &allocator) {
    struct Object {
        void *block;
        std::size_t size;
    };
    static constexpr std::size_t sizes[] = {28, 33, 37, 40, 40, 48, 64, 64, 64, 72, 96, 192};
    const auto heap = allocator.make_heap();
    std::mt19937 random(1);
    std::vector<Object> list;
    std::vector<Object> kept;
    std::int64_t requests = 0;
    for (auto _ : state) {
        while (list.size() < batch) {
            const std::size_t size = sizes[random() % std::size(sizes)];
            void *block = heap->request(nullptr, 0, size);
            touch_new(block, size);
            list.push_back({block, size});
            ++requests;
        }
        kept.clear();
        for (auto object = list.rbegin(); object != list.rend(); ++object) {
            benchmark::DoNotOptimize(touch_freed(object->block));
            if (random() % 3 == 0) {
                kept.push_back(*object);
                continue;
            }
            heap->request(object->block, object->size, 0);
            ++requests;
        }
        list.assign(kept.rbegin(), kept.rend());
    }
    for (const Object &object : list) heap->request(object.block, object.size, 0);
    state.SetItemsProcessed(requests);
}

// A vector that doubles from 16 bytes to this many.
void grow(benchmark::State &state, const Allocator &allocator, std::size_t limit) {
    const auto heap = allocator.make_heap();
    std::int64_t requests = 0;
    for (auto _ : state) {
        std::size_t size = 16;
        void *block = heap->request(nullptr, 0, size);
        for (; size < limit; size *= 2, ++requests) {
            block = heap->request(block, size, 2 * size);
            touch_grown(block, size, 2 * size);
        }
        heap->request(block, size, 0);
        requests += 2;
    }
    state.SetItemsProcessed(requests);
}

// A buffer that grows and shrinks a little, as a coroutine's stack does.
void breathe(benchmark::State &state, const Allocator &allocator) {
    const auto heap = allocator.make_heap();
    std::size_t size = 400;
    void *block = heap->request(nullptr, 0, size);
    for (auto _ : state) {
        block = heap->request(block, size, 800);
        block = heap->request(block, 800, size);
    }
    heap->request(block, size, 0);
    state.SetItemsProcessed(2 * state.iterations());
}

template <class Function, class... Arguments>
void add(const std::string &name, const Allocator &allocator, Function function, Arguments... arguments) {
    benchmark::RegisterBenchmark(("op/" + name + "/" + allocator.name).c_str(),
                                 [&allocator, function, arguments...](benchmark::State &state) {
                                     function(state, allocator, arguments...);
                                 });
}

}  // namespace

void register_op(const Allocators &allocators) {
    for (const std::size_t size : {16, 40, 64, 256, 1024, 4096, 32768, 1 << 20}) {
        for (const auto &allocator : allocators) add("pair/" + std::to_string(size), *allocator, pair, size);
    }
    for (const std::size_t size : {16, 64, 256, 1024, 8192}) {
        const std::string text = std::to_string(size);
        for (const auto &allocator : allocators) add("lifo/" + text, *allocator, batches, size, Order::lifo);
        for (const auto &allocator : allocators) add("fifo/" + text, *allocator, batches, size, Order::fifo);
        for (const auto &allocator : allocators)
            add("random/" + text, *allocator, batches, size, Order::random);
    }
    for (const auto &allocator : allocators) add("sweep", *allocator, sweep);
    for (const auto &allocator : allocators) add("grow/4K", *allocator, grow, std::size_t{4} << 10);
    for (const auto &allocator : allocators) add("grow/16M", *allocator, grow, std::size_t{16} << 20);
    for (const auto &allocator : allocators) add("breathe", *allocator, breathe);
}

}  // namespace jemalloc_lua::bench
