#include "host_lua.h"

#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstdint>
#include <cstdio>

#include "config/options.h"

namespace jemalloc_lua {
namespace {

// The LuaJIT whose states are ours; set once. Without locks, so that fork() finds none held.
std::atomic<const HostLua *> served{nullptr};
// The last LuaJIT that was found to take no allocator, by its lua_newstate.
std::atomic<void *> refused{nullptr};

const void *object_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : nullptr;
}

bool in_shim(const void *address) {
    return object_of(address) == object_of(reinterpret_cast<const void *>(&served));
}

// Finds symbols as the dynamic linker does for the caller: the global scope first (here from the shim
// onwards), then the object that the caller is in, with its dependencies, which dlopen() may have loaded
// with RTLD_LOCAL.
class Scope {
  public:
    explicit Scope(const void *caller) {
        Dl_info info;
        link_map *map = nullptr;
        if (dladdr1(caller, &info, reinterpret_cast<void **>(&map), RTLD_DL_LINKMAP) == 0) return;
        const bool is_program = map->l_name[0] == '\0';
        handle_ = dlopen(is_program ? nullptr : map->l_name, RTLD_LAZY | RTLD_NOLOAD);
    }
    Scope(const Scope &) = delete;
    Scope &operator=(const Scope &) = delete;
    ~Scope() {
        if (handle_ != nullptr) dlclose(handle_);
    }

    template <class F>
    void find(const char *name, F *function) const {
        *function = reinterpret_cast<F>(find(name));
    }

    void *find(const char *name) const {
        void *found = dlsym(RTLD_NEXT, name);
        if (found == nullptr && handle_ != nullptr) found = dlsym(handle_, name);
        return found != nullptr && !in_shim(found) ? found : nullptr;
    }

  private:
    void *handle_ = nullptr;
};

// lua_newstate() of a LuaJIT without GC64 complains on stderr, so it is not tried: such a LuaJIT keeps its
// states in the lowest 4 GiB of addresses, which no other does on a 64-bit system.
bool takes_allocators(const HostLua &lua) {
#if defined(__x86_64__)
    lua_State *L = lua.luaL_newstate();
    if (L == nullptr) return true;
    const bool low = reinterpret_cast<std::uintptr_t>(L) >> 32 == 0;
    lua.lua_close(L);
    return !low;
#else
    return lua.luaL_newstate != nullptr;
#endif
}

// The luaL_newstate() of a probe may come back to the shim by way of lua_newstate().
[[gnu::tls_model("initial-exec")]] thread_local bool probing = false;

}  // namespace

HostLua find_lua(const void *caller) {
    const HostLua *now = served.load(std::memory_order_acquire);
    if (now != nullptr && in_shim(caller)) return *now;
    const Scope scope(caller);
    HostLua lua;
    scope.find("luaL_newstate", &lua.luaL_newstate);
    scope.find("lua_newstate", &lua.lua_newstate);
    scope.find("lua_close", &lua.lua_close);
    scope.find("lua_gc", &lua.lua_gc);
    scope.find("lua_getallocf", &lua.lua_getallocf);
    scope.find("lua_setallocf", &lua.lua_setallocf);
    scope.find("lua_atpanic", &lua.lua_atpanic);
    scope.find("lua_tolstring", &lua.lua_tolstring);
    // PUC Lua has no such function. A process may hold both, so it must be this Lua's own.
    const void *mark = scope.find("luaJIT_setmode");
    lua.is_luajit = mark != nullptr && lua.luaL_newstate != nullptr && lua.lua_newstate != nullptr &&
                    object_of(mark) == object_of(reinterpret_cast<const void *>(lua.lua_newstate));
    return lua;
}

bool serve(const HostLua &lua) {
    if (probing) return false;
    if (!lua.is_luajit) {
        tell("this host's Lua is not LuaJIT: its states keep their own allocator");
        return false;
    }
    const HostLua *now = served.load(std::memory_order_acquire);
    if (now == nullptr) {
        void *const newstate = reinterpret_cast<void *>(lua.lua_newstate);
        if (refused.load(std::memory_order_relaxed) == newstate) return false;
        probing = true;
        const bool usable = takes_allocators(lua);
        probing = false;
        if (!usable) {
            refused.store(newstate, std::memory_order_relaxed);
            tell("this LuaJIT takes no allocator (it was built without GC64): its states keep their own");
            return false;
        }
        auto *made = new HostLua(lua);
        made->api = find_api(newstate);
        if (served.compare_exchange_strong(now, made, std::memory_order_acq_rel)) return true;
        delete made;
    }
    if (now->lua_newstate == lua.lua_newstate) return true;
    tell("a second LuaJIT in this process: its states keep their own allocator");
    return false;
}

// Before there is one that is served, for a host that calls jemalloc_lua_*() itself, any that is seen.
const HostLua &host_lua() {
    const HostLua *now = served.load(std::memory_order_acquire);
    if (now != nullptr) return *now;
    static std::atomic<const HostLua *> seen{nullptr};
    now = seen.load(std::memory_order_acquire);
    if (now != nullptr) return *now;
    auto *made = new HostLua(find_lua(reinterpret_cast<const void *>(&host_lua)));
    if (made->is_luajit) made->api = find_api(reinterpret_cast<const void *>(made->lua_newstate));
    if (seen.compare_exchange_strong(now, made, std::memory_order_acq_rel)) return *made;
    delete made;
    return *now;
}

void tell(const char *text) {
    if (environment_settings().verbose) std::fprintf(stderr, "jemalloc_lua: %s\n", text);
}

}  // namespace jemalloc_lua

// ---- What the allocator calls of Lua. Hidden by preload.map.

using jemalloc_lua::host_lua;

extern "C" {

void lua_close(lua_State *L) {
    host_lua().lua_close(L);
}

int lua_gc(lua_State *L, int what, int data) {
    return host_lua().lua_gc(L, what, data);
}

lua_Alloc lua_getallocf(lua_State *L, void **ud) {
    const auto getallocf = host_lua().lua_getallocf;
    return getallocf != nullptr ? getallocf(L, ud) : nullptr;  // no Lua is seen: no state is ours
}

void lua_setallocf(lua_State *L, lua_Alloc f, void *ud) {
    host_lua().lua_setallocf(L, f, ud);
}

lua_CFunction lua_atpanic(lua_State *L, lua_CFunction panic) {
    return host_lua().lua_atpanic(L, panic);
}

const char *lua_tolstring(lua_State *L, int index, size_t *length) {
    return host_lua().lua_tolstring(L, index, length);
}
}
