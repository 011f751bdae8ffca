// jemalloc's explicit tcaches. There are some 4,090; a heap without one is slower. Any thread may call these.
//
// jemalloc forgets in the child of fork() which tcaches its arenas have, and to flush or destroy one from
// before then is to follow links that lead nowhere (arena_postfork_child() and tcache_arena_dissociate() in
// jemalloc 5.3). Those are left as they are.
#pragma once

#include <optional>

namespace jemalloc_lua {

std::optional<unsigned> create_tcache();
void destroy_tcache(unsigned id);
void flush_tcache(unsigned id);

}  // namespace jemalloc_lua
