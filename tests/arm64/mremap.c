/*
 * An mremap() as of kernels before 5.7, for qemu-user: qemu takes the range that MREMAP_DONTUNMAP leaves
 * mapped for unmapped, and stops a program that uses it again with a segmentation fault (target_mremap() in
 * its linux-user/mmap.c). Preloaded by tools/test-arm64, so that the allocator copies instead.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *mremap(void *from, size_t old_size, size_t new_size, int flags, ...) {
    va_list args;
    void *to;
    if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    va_start(args, flags);
    to = (flags & MREMAP_FIXED) != 0 ? va_arg(args, void *) : NULL;
    va_end(args);
    return (void *)syscall(SYS_mremap, from, old_size, new_size, flags, to);
}
