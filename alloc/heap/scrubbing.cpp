#include "heap/scrubbing.h"

#include <cstring>

#include "heap/heap.h"

namespace jemalloc_lua {

void *scrubbing_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    Heap &heap = *static_cast<Heap *>(ud);
    if (ptr != nullptr) {
        const std::size_t bytes = heap.front().bytes_of(heap, ptr, old_size);
        if (new_size < bytes) explicit_bzero(static_cast<char *>(ptr) + new_size, bytes - new_size);
    }
    return heap.below(Entry::scrubbing)(ud, ptr, old_size, new_size);
}

}  // namespace jemalloc_lua
