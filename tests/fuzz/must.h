// What a fuzz target takes for granted: where it does not hold, the line is named and the process ends.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void must(bool condition, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (condition) return;
    std::fprintf(stderr, "%s:%d: this does not hold\n", file, line);
    std::abort();
}
