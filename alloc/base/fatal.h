// The end of a process in which a heap found damage: one line on stderr, then abort().
#pragma once

namespace jemalloc_lua {

// Prints "jemalloc_lua: ", the text and a line feed by one write(), since stdio's own state may be damaged.
[[noreturn, gnu::cold, gnu::format(printf, 1, 2)]] void fatal(const char *format, ...);

}  // namespace jemalloc_lua
