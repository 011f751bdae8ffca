// What all heaps of a process share, kept whole across fork().
//
// A child has only the thread that called fork(). What another thread was in the middle of stays so for ever:
// a lock stays locked, and a static variable of a function stays half made, for which the child then waits.
// So all of this is done under one lock, which fork() takes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace jemalloc_lua {

// Held for no longer than it takes to make an arena, or the file of statistics. May be held when jemalloc is
// called, never the other way round: its extent hooks don't take it.
extern std::recursive_mutex process_lock;

// What else is to be done around fork(), with the lock held; each may be null. As pthread_atfork(), which may
// not be called with the lock held: the C library of before 2022 has a lock of its own there, held during
// fork().
struct ForkHandler {
    void (*before)();
    void (*in_parent)();
    void (*in_child)();
    ForkHandler *next = nullptr;
};

// The handler must live as long as the process. The last one added is the first one called before fork(), and
// the last one after it.
void at_fork(ForkHandler *handler);

// The name by which the process was started, up to 31 bytes of it.
const char *program_name();

// A value that is made when it is first asked for, and never destroyed: states may be closed after static
// destructors have run. A static variable of this type is there from the start (constinit).
template <class T>
class Once {
  public:
    template <class Make>
    const T &get(Make &&make) {
        if (!made_.load(std::memory_order_acquire)) [[unlikely]] {
            const std::lock_guard guard(process_lock);
            if (!made_.load(std::memory_order_relaxed)) {
                new (storage_) T(make());
                made_.store(true, std::memory_order_release);
            }
        }
        return *std::launder(reinterpret_cast<const T *>(storage_));
    }

  private:
    std::atomic<bool> made_{false};
    alignas(T) std::byte storage_[sizeof(T)]{};
};

}  // namespace jemalloc_lua
