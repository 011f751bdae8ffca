// What is to be done at a heap's end, when no finalizer can run any more and blocks can still be freed.
#pragma once

namespace jemalloc_lua {

struct AtEnd {
    void (*run)(AtEnd *self);  // `self` may be gone afterwards
    AtEnd *next = nullptr;
};

inline void run_all(AtEnd *&list) {
    while (AtEnd *each = list) {
        list = each->next;
        each->run(each);
    }
}

}  // namespace jemalloc_lua
