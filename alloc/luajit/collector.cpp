#include "luajit/collector.h"

namespace jemalloc_lua::luajit {

std::size_t live_bytes(lua_State *L) {
    return (static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNT, 0)) << 10) +
           static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNTB, 0));
}

bool Collector::is_stopped() const {
    return lua_gc(state_, LUA_GCISRUNNING, 0) == 0;
}

void Collector::push(int stepmul) {
    ++pushes_;
    lua_gc(state_, LUA_GCRESTART, 0);
    if (pushing_) return;
    pushing_ = true;
    pushed_stepmul_ = stepmul;
    calm_stepmul_ = lua_gc(state_, LUA_GCSETSTEPMUL, stepmul);
}

void Collector::relax() {
    if (!pushing_) return;
    pushing_ = false;
    const int now = lua_gc(state_, LUA_GCSETSTEPMUL, calm_stepmul_);
    if (now != pushed_stepmul_) lua_gc(state_, LUA_GCSETSTEPMUL, now);
}

}  // namespace jemalloc_lua::luajit
