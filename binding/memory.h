// What the module's C functions share: the functions of the jemalloc that it has bound, and what it made: the
// blocks of buffers, arenas and tcaches. One for each state, in jemalloc's memory; used by the state's
// thread. It goes when the state's last finalizer has run, and with it all that it still knows (end.cpp).
//
// These functions are in C++ because Lua cannot do their work safely. An address that a C function returns to
// Lua is boxed in an object, as is one that is read from a struct; where there is no memory for that object
// the block is lost. Here the fields of buffers, arenas and tcaches are right before Lua may raise an error,
// and to release one takes no memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pressure.h"
#include "state/inside.h"
#include "structs.h"

namespace jemalloc_lua {

struct Memory;

// Addresses of what a state's end releases, each with a size.
class Owned {
  public:
    // Room for one more. False: no memory.
    bool reserve(const Memory &memory);
    void add(const void *what, std::size_t size) {
        table_.insert(reinterpret_cast<std::uintptr_t>(what), size);
    }
    void remove(const void *what) { table_.erase(reinterpret_cast<std::uintptr_t>(what)); }
    template <class F>
    void for_each(F &&f) const {
        for (std::size_t i = 0; i < table_.capacity(); ++i) {
            const AddressTable::Entry &entry = table_.entries()[i];
            if (entry.key != 0) f(reinterpret_cast<void *>(entry.key), entry.value);
        }
    }
    std::size_t count() const { return table_.count(); }
    void free_table(const Memory &memory);

  private:
    AddressTable table_;
};

struct Memory : AtEnd {
    Heap *heap;  // null where the state is not ours
    void *(*mallocx)(std::size_t, int);
    void *(*rallocx)(void *, std::size_t, int);
    void (*dallocx)(void *, int);
    void (*sdallocx)(void *, std::size_t, int);
    std::size_t (*nallocx)(std::size_t, int);
    void *(*realloc)(void *, std::size_t);  // null where there is none
    int (*mallctl)(const char *, void *, std::size_t *, void *, std::size_t);
    Pressure pressure;     // of the buffers
    Owned blocks;          // of buffers, where nobody else knows them
    Owned arenas;          // control blocks
    std::size_t dirty;     // bytes that buffers gave back to arenas, which may not be purged yet
    Ids *ids;              // of the bound jemalloc
    std::uint32_t client;  // the owner's number there
};

// For the module's own records, which bypass the thread's cache: its freed blocks may belong to an arena that
// is about to be destroyed.
inline constexpr int record_flags = je::no_tcache_flag;

// One of an arena's owners goes; the last one destroys the arena.
void drop(Memory *memory, ArenaBlock *block);

// `bytes` of a block went back to an arena. Under a limit they do not stay resident for long.
void note_dirty(Memory *memory, std::size_t bytes);

// Of a state's end: frees the buffers, arenas and tcaches that are left.
void release_buffers(Memory *memory);
void release_arenas(Memory *memory);

// Pushes the marker that tells of the end of a state which is not ours. It may raise an error, so it comes
// before there is a memory. Then: the memory, and all that it still knows, goes at the state's end.
void *push_marker(lua_State *L);
void await_end(void *marker, Memory *memory);

// Put into the table at `native` what the Lua side needs. add_provider() comes first: it fills `functions`.
// Where the process lacks the jemalloc that JEMALLOC_PREFIX asks for, it raises an error.
void add_provider(lua_State *L, int native);
void add_memory(lua_State *L, int native);
void add_buffers(lua_State *L, int native);
void add_arenas(lua_State *L, int native);
void add_heap(lua_State *L, int native);

// Set a field of the table at the top of the stack, or of the one at `table`.
void set_address(lua_State *L, const char *name, void *address);
void set_number(lua_State *L, const char *name, double value);
void set_function(lua_State *L, int table, const char *name, int (*function)(lua_State *));

}  // namespace jemalloc_lua
