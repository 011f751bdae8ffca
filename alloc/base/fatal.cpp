#include "base/fatal.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdlib>

#include "base/text.h"

namespace jemalloc_lua {

void fatal(const char *format, ...) {
    char line[512];
    Text text(line, sizeof line);
    text.add("jemalloc_lua: ");
    va_list args;
    va_start(args, format);
    text.add_list(format, args);
    va_end(args);
    text.add("\n");
    if (write(STDERR_FILENO, line, text.written()) < 0) std::abort();
    std::abort();
}

}  // namespace jemalloc_lua
