#include "base/process.h"

#include <pthread.h>

#include <cerrno>
#include <cstdio>

namespace jemalloc_lua {
namespace {

ForkHandler *handlers = nullptr;  // the last one added

void call_in_order_of_addition(const ForkHandler *handler, void (*ForkHandler::*function)()) {
    if (handler == nullptr) return;
    call_in_order_of_addition(handler->next, function);
    if (handler->*function != nullptr) (handler->*function)();
}

void before_fork() {
    process_lock.lock();
    for (const ForkHandler *handler = handlers; handler != nullptr; handler = handler->next) {
        if (handler->before != nullptr) handler->before();
    }
}

void in_parent() {
    call_in_order_of_addition(handlers, &ForkHandler::in_parent);
    process_lock.unlock();
}

// A recursive lock belongs to a thread id, and the child's thread has another id. So the child makes a new
// lock.
void in_child() {
    new (&process_lock) std::recursive_mutex;
    call_in_order_of_addition(handlers, &ForkHandler::in_child);
}

// jemalloc registers its own handlers as it starts. They must be registered first, so that fork() takes
// jemalloc's locks after this one: system/arenas.cpp starts jemalloc in an earlier constructor.
[[gnu::constructor]] void register_handlers() {
    pthread_atfork(before_fork, in_parent, in_child);
}

char program[32];
// As the library is loaded, because a host may write its title over the name later: nginx does.
[[gnu::constructor]] void remember_program() {
    std::snprintf(program, sizeof program, "%s", program_invocation_short_name);
}

}  // namespace

std::recursive_mutex process_lock;

const char *program_name() {
    return program;
}

void at_fork(ForkHandler *handler) {
    const std::lock_guard guard(process_lock);
    handler->next = handlers;
    handlers = handler;
}

}  // namespace jemalloc_lua
