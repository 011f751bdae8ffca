#include "kernel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace kernel {
namespace {

template <class T>
T refuse(int error, T result) {
    ++refused;
    errno = error;
    return result;
}

// Whether so many bytes more may be writable.
bool commit(std::size_t size) {
    if (lacks.writable == SIZE_MAX) return true;
    if (size > lacks.writable) return false;
    lacks.writable -= size;
    return true;
}

void give_back(std::size_t size) {
    if (lacks.writable != SIZE_MAX) lacks.writable += size;
}

}  // namespace
}  // namespace kernel

using kernel::lacks;
using kernel::refuse;

extern "C" {

void *__real_mmap(void *at, std::size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, std::size_t size, int protection, int flags, int file, off_t offset) {
    if ((protection & PROT_WRITE) != 0 && !kernel::commit(size)) return refuse(ENOMEM, MAP_FAILED);
    void *to = __real_mmap(at, size, protection, flags, file, offset);
    // jemalloc takes pages back by mapping over them what can't be written.
    if (to == at && (protection & PROT_WRITE) == 0 && (flags & MAP_FIXED) != 0) kernel::give_back(size);
    return to;
}

void *__real_mremap(void *from, std::size_t old_size, std::size_t new_size, int flags, ...);
void *__wrap_mremap(void *from, std::size_t old_size, std::size_t new_size, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *to = (flags & ~MREMAP_MAYMOVE) != 0 ? va_arg(rest, void *) : nullptr;
    va_end(rest);
    if (lacks.mremap) return refuse(ENOMEM, MAP_FAILED);
    if (lacks.dontunmap && (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) return refuse(EINVAL, MAP_FAILED);
    const std::size_t stays = (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 ? 0 : old_size;
    if (new_size > stays && !kernel::commit(new_size - stays)) return refuse(ENOMEM, MAP_FAILED);
    void *moved = __real_mremap(from, old_size, new_size, flags, to);
    if (moved == MAP_FAILED) return refuse(errno, MAP_FAILED);
    if ((flags & MREMAP_FIXED) != 0) kernel::give_back(new_size);  // what was there
    return moved;
}

// Where jemalloc turns when mmap() has nothing.
void *__real_sbrk(std::intptr_t size);
void *__wrap_sbrk(std::intptr_t size) {
    if (size > 0 && !kernel::commit(static_cast<std::size_t>(size))) return refuse(ENOMEM, MAP_FAILED);
    return __real_sbrk(size);
}

int __real_madvise(void *at, std::size_t size, int advice);
int __wrap_madvise(void *at, std::size_t size, int advice) {
    if (lacks.huge_pages && (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE)) return refuse(EINVAL, -1);
    return __real_madvise(at, size, advice);
}

// jemalloc opens /proc/sys/vm/overcommit_memory by this as it starts, and takes a failure for "never".
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long arguments[6];
    for (long &argument : arguments) argument = va_arg(rest, long);
    va_end(rest);
#ifdef SYS_open
    const bool opens = number == SYS_open;
    const long name = arguments[0];
#else
    const bool opens = number == SYS_openat;
    const long name = arguments[1];
#endif
    if (opens && std::getenv(kernel::strict_variable) != nullptr &&
        std::strstr(reinterpret_cast<const char *>(name), "overcommit_memory") != nullptr) {
        return refuse(ENOENT, -1L);
    }
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                          arguments[5]);
}

}  // extern "C"
