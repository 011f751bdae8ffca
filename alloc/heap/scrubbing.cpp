#include "heap/scrubbing.h"

#include <cstring>

#include "heap/heap.h"

namespace jemalloc_lua {

void *scrubbing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    Heap &heap = *static_cast<Heap *>(ud);
    if (ptr != nullptr && new_size < old_size) {
        if (heap.front().verify != nullptr) heap.front().verify(heap, ptr, old_size);
        explicit_bzero(static_cast<char *>(ptr) + new_size, old_size - new_size);
    }
    return heap.below(Entry::scrubbing)(ud, ptr, old_size, new_size);
}

}  // namespace jemalloc_lua
