/* A jemalloc with the prefix foo_ for LD_PRELOAD: the bundled one, whose own names (je_) stay hidden. */
#include <jemalloc/jemalloc.h>

#define FOO __attribute__((visibility("default")))

FOO void *foo_mallocx(size_t size, int flags) {
    return je_mallocx(size, flags);
}
FOO void *foo_rallocx(void *ptr, size_t size, int flags) {
    return je_rallocx(ptr, size, flags);
}
FOO size_t foo_xallocx(void *ptr, size_t size, size_t extra, int flags) {
    return je_xallocx(ptr, size, extra, flags);
}
FOO size_t foo_sallocx(const void *ptr, int flags) {
    return je_sallocx(ptr, flags);
}
FOO void foo_dallocx(void *ptr, int flags) {
    je_dallocx(ptr, flags);
}
FOO void foo_sdallocx(void *ptr, size_t size, int flags) {
    je_sdallocx(ptr, size, flags);
}
FOO size_t foo_nallocx(size_t size, int flags) {
    return je_nallocx(size, flags);
}
FOO int foo_mallctl(const char *name, void *old, size_t *old_size, void *now, size_t now_size) {
    return je_mallctl(name, old, old_size, now, now_size);
}
FOO int foo_mallctlnametomib(const char *name, size_t *mib, size_t *length) {
    return je_mallctlnametomib(name, mib, length);
}
FOO int foo_mallctlbymib(const size_t *mib, size_t length, void *old, size_t *old_size, void *now,
                         size_t now_size) {
    return je_mallctlbymib(mib, length, old, old_size, now, now_size);
}
FOO void foo_malloc_stats_print(void (*write)(void *, const char *), void *to, const char *opts) {
    je_malloc_stats_print(write, to, opts);
}
FOO size_t foo_malloc_usable_size(const void *ptr) {
    return je_malloc_usable_size((void *)ptr);
}
FOO void *foo_malloc(size_t size) {
    return je_malloc(size);
}
FOO void *foo_calloc(size_t number, size_t size) {
    return je_calloc(number, size);
}
FOO int foo_posix_memalign(void **ptr, size_t alignment, size_t size) {
    return je_posix_memalign(ptr, alignment, size);
}
FOO void *foo_aligned_alloc(size_t alignment, size_t size) {
    return je_aligned_alloc(alignment, size);
}
FOO void *foo_realloc(void *ptr, size_t size) {
    return je_realloc(ptr, size);
}
FOO void foo_free(void *ptr) {
    je_free(ptr);
}
