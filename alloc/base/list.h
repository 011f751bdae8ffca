// A doubly linked list through members `next` and `prev` of its elements.
#pragma once

namespace jemalloc_lua {

template <class T>
struct List {
    T *first = nullptr;  // the oldest
    T *last = nullptr;

    void push_back(T *element) {
        element->prev = last;
        element->next = nullptr;
        (last != nullptr ? last->next : first) = element;
        last = element;
    }
    void remove(T *element) {
        (element->prev != nullptr ? element->prev->next : first) = element->next;
        (element->next != nullptr ? element->next->prev : last) = element->prev;
    }
};

}  // namespace jemalloc_lua
