// The jemalloc that this library runs on, as a list of function pointers: what the Lua module binds when
// the process brings no jemalloc of its own, so that one jemalloc serves backend and module.
#pragma once

namespace jemalloc_lua::je {

struct Function {
    const char *name;
    void *address;
};

// Ends with a null name.
extern const Function functions[];

// The prefix of its names: "je_" for the bundled jemalloc, "" for the system's.
extern const char *const prefix;

}  // namespace jemalloc_lua::je
