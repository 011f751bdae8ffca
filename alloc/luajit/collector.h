// A state's garbage collector, as far as an allocator may touch it.
//
// The calls of lua_gc() made here only read or set a field of LuaJIT's global state (lj_api.c: LUA_GCRESTART,
// LUA_GCSETSTEPMUL, LUA_GCCOUNT, LUA_GCCOUNTB, LUA_GCISRUNNING; all of 2.1), so they may be made from inside
// the allocator. The collector starts at its next check.
#pragma once

#include <cstddef>
#include <cstdint>

#include "jemalloc_lua.h"

namespace jemalloc_lua::luajit {

// Bytes in use in a state, as Lua counts them.
std::size_t live_bytes(lua_State *L);

class Collector {
  public:
    // The state whose collector this is; null while it is unknown, or gone. A new state is not pushed.
    void attach(lua_State *L) {
        state_ = L;
        pushing_ = false;
    }
    lua_State *state() const { return state_; }

    // A collector that the host or the script has stopped stays stopped; so does one in a finalizer, where
    // LuaJIT stops it.
    bool is_stopped() const;
    // Has the collector start at its next check and run at the given speed until relax().
    void push(int stepmul);
    // Back to the speed from before; a script that set another speed meanwhile keeps it.
    void relax();

    bool is_pushed() const { return pushing_; }
    std::uint64_t pushes() const { return pushes_; }

  private:
    lua_State *state_ = nullptr;
    bool pushing_ = false;
    int calm_stepmul_ = 0;    // the speed before the first push
    int pushed_stepmul_ = 0;  // the speed that a push has set
    std::uint64_t pushes_ = 0;
};

}  // namespace jemalloc_lua::luajit
