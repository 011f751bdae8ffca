// What each new state gets on top of Lua's base. The allocator knows nothing of it but this list, which
// whoever links the allocator defines: binding/ with the Lua module `jemalloc`.
#pragma once

struct lua_State;

namespace jemalloc_lua {

// Called once, when the state has its allocator and its limits. Returns a status of Lua's; where that is not
// 0 the state is closed again, and its maker gets null with ENOMEM.
using StateExtra = int (*)(lua_State *L);

// Ends with null. A strong reference on purpose: a weak one, or a weak empty list in alloc/, would leave the
// module out of programs that link the static library, because nothing else refers to it there.
extern const StateExtra state_extras[];

}  // namespace jemalloc_lua
