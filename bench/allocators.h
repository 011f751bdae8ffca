// The allocators that benchmarks compare, behind one interface.
//
// An allocator is named by a string, so that a command line, a Google Benchmark filter and a report's table
// all speak of the same thing:
//
//     builtin    LuaJIT's own (lj_alloc.c), by lua_getallocf() of a state from luaL_newstate()
//     glibc      the C library's, by name, whatever took over malloc in this process
//     jemalloc   jemalloc's allocx functions with flags 0, as a host would call them without this library
//     mimalloc   a mimalloc heap per state, where libmimalloc.so.2 is installed
//     tcmalloc   where libtcmalloc_minimal.so.4 is installed
//     default    this library with its defaults
//     key:value,key:value…   this library with these options
//
// mimalloc and tcmalloc are loaded privately: malloc of the process stays as it was.
#pragma once

#include <lua.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace jemalloc_lua::bench {

// One heap to allocate from without a Lua state; the destructor releases it.
class Heap {
  public:
    virtual ~Heap() = default;
    Heap(const Heap &) = delete;
    Heap &operator=(const Heap &) = delete;

    void *request(void *block, std::size_t old_size, std::size_t new_size) const {
        return alloc(ud, block, old_size, new_size);
    }

    lua_Alloc alloc = nullptr;
    void *ud = nullptr;

  protected:
    Heap() = default;
};

// One Lua state on a heap of its own; the destructor closes it in the way that the allocator's users would.
class State {
  public:
    virtual ~State() = default;
    State(const State &) = delete;
    State &operator=(const State &) = delete;

    lua_State *L = nullptr;

  protected:
    State() = default;
};

class Allocator {
  public:
    virtual ~Allocator() = default;
    virtual std::unique_ptr<Heap> make_heap() const = 0;
    // Null when there is no memory for it.
    virtual std::unique_ptr<State> make_state() const = 0;

    std::string name;
};

// The allocator of that name; or null, and then `why` says in one line what is missing or wrong.
std::unique_ptr<Allocator> find_allocator(std::string_view name, std::string &why);

// Whether the name is a peer that may be absent from a machine (and then a benchmark is skipped, not wrong).
bool is_optional(std::string_view name);

// What a comparison shows when nothing else was asked for.
std::vector<std::string> standard_allocators();

}  // namespace jemalloc_lua::bench
