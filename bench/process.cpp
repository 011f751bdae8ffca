// From getrusage() and /proc. Not ru_maxrss, which begins with what the parent process held; not VmRSS, which
// lags behind by up to 64 pages a thread.

#include "process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace jemalloc_lua::bench {
namespace {

double seconds(const timeval &time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// A line of a file in /proc/self that counts KB.
std::size_t kilobytes_line(const char *path, const char *key) {
    std::FILE *file = std::fopen(path, "r");
    if (file == nullptr) return 0;
    char line[256];
    unsigned long kilobytes = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
        if (std::strncmp(line, key, std::strlen(key)) != 0) continue;
        std::sscanf(line + std::strlen(key), ": %lu", &kilobytes);
        break;
    }
    std::fclose(file);
    return kilobytes * 1024;
}

}  // namespace

ProcessUse process_use() {
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return {seconds(use.ru_utime), seconds(use.ru_stime), use.ru_minflt, use.ru_majflt};
}

std::size_t resident_bytes() {
    return kilobytes_line("/proc/self/smaps_rollup", "Rss");
}

std::size_t peak_resident_bytes() {
    return kilobytes_line("/proc/self/status", "VmHWM");
}

}  // namespace jemalloc_lua::bench
