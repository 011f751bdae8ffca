// Whose the arenas and tcaches of a jemalloc are, by their numbers.
//
// jemalloc takes any number, and checks nothing: with the number of another's arena or tcache a caller uses
// memory that goes at a moment that it does not know, or another thread's cache. So all that this library
// makes has an owner: heaps, or a client, which is the Lua module in one state. What has none is jemalloc's
// own or the host's, and open to all.
//
// A process may have several jemallocs: the library's, and those that the Lua module binds. Any thread may
// call these functions. Owners are written under the process's lock, and read without it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

using Mallctl = int (*)(const char *name, void *old, std::size_t *old_size, void *now, std::size_t now_size);

struct Ids {
    static constexpr std::size_t count = 4096;  // the flags have 12 bits for each

    Mallctl mallctl;
    // By index. Nobody but heaps uses a heap's own arena; a shared one may be used by all, but not emptied.
    enum Owner : std::uint32_t { open, heap, shared, first_client };
    // Added to a client's number where its script knows the tcache by number alone, and releases it so.
    static constexpr std::uint32_t by_number = std::uint32_t{1} << 31;
    std::array<std::uint32_t, count> arenas{};
    std::array<std::uint32_t, count> tcaches{};
    // Not 0: a client has chosen an arena. From then on a freed block may be of any arena, and no freed
    // block goes to a thread's own cache, which nobody can flush when the arena goes.
    std::uint32_t arenas_chosen = 0;
    std::uint32_t arenas_of_clients = 0;
    Ids *next = nullptr;
};

// Those of the library's own jemalloc.
extern Ids own_ids;
// Those of the jemalloc of this function; null: no memory.
Ids *ids_of(Mallctl mallctl);

// A number that no other owner has.
std::uint32_t new_client();

// 0, or an errno of jemalloc's. `hooks`: extent hooks, or null for jemalloc's own.
int create_arena(Ids &ids, std::uint32_t owner, unsigned *index, void *hooks = nullptr);
// A heap lies in an arena that nobody owns, so nobody is to empty it from now on.
void share_arena(Ids &ids, unsigned index);
// A client's arena, with all that is in it. No tcache may hold any of it.
void destroy_arena(Ids &ids, unsigned index);

// jemalloc forgets in the child of fork() which tcaches its arenas have, and to flush or destroy one from
// before then is to follow links that lead nowhere (arena_postfork_child() and tcache_arena_dissociate() in
// jemalloc 5.3). Those have no owner in the child, and are left as they are.
int create_tcache(Ids &ids, std::uint32_t owner, unsigned *id);
void destroy_tcache(Ids &ids, unsigned id);
void flush_tcache(Ids &ids, unsigned id);

}  // namespace jemalloc_lua
