// Finds the host's Lua as the dynamic linker would for the caller, and decides which LuaJIT is served. Takes
// no lock, so a child of fork() never finds one held.

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdio>

#include "host.h"
#include "state/inside.h"

namespace jemalloc_lua {
namespace {

std::atomic<const Host *> served{nullptr};  // set once
std::atomic<const Host *> found{nullptr};   // a list of all Luas found so far

const void *object_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : nullptr;
}

bool in_shim(const void *address) {
    return object_of(address) == object_of(reinterpret_cast<const void *>(&served));
}

// The symbols that the caller would reach without the shim: those of the global scope after the shim, then
// those of the object that contains the caller and of its dependencies. dlopen() may have loaded that object
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

    // False, and a null pointer, if no such function is found.
    template <class F>
    bool find(const char *name, F *function) const {
        void *symbol = dlsym(RTLD_NEXT, name);
        if (symbol == nullptr && handle_ != nullptr) symbol = dlsym(handle_, name);
        if (symbol != nullptr && in_shim(symbol)) symbol = nullptr;
        *function = reinterpret_cast<F>(symbol);
        return symbol != nullptr;
    }

  private:
    void *handle_ = nullptr;
};

Host *make_host(const Scope &scope) {
    auto *host = new Host;
    host->is_complete = true;
#define JEMALLOC_LUA_FIND(name, parameters) host->is_complete &= scope.find(#name, &host->name);
    JEMALLOC_LUA_HOST_FUNCTIONS(JEMALLOC_LUA_FIND)
#undef JEMALLOC_LUA_FIND
    // PUC Lua has no luaJIT_setmode(). A process may hold both Luas, so the function must be this Lua's own.
    host->is_luajit = host->luaJIT_setmode != nullptr && host->luaL_newstate != nullptr &&
                      host->lua_newstate != nullptr &&
                      object_of(reinterpret_cast<const void *>(host->luaJIT_setmode)) ==
                          object_of(reinterpret_cast<const void *>(host->lua_newstate));
    return host;
}

// lua_newstate() of a LuaJIT without GC64 prints a complaint on stderr, so it is not called to find out. Such
// a LuaJIT keeps its states in the lowest 4 GiB of addresses; other 64-bit builds do not.
bool takes_allocators(const Host &host) {
#if defined(__x86_64__)
    lua_State *L = host.luaL_newstate();
    if (L == nullptr) return true;
    const bool low = reinterpret_cast<std::uintptr_t>(L) >> 32 == 0;
    host.lua_close(L);
    return !low;
#else
    return host.luaL_newstate != nullptr;
#endif
}

// True while takes_allocators() runs: the host's luaL_newstate() may call the shim's lua_newstate().
[[gnu::tls_model("initial-exec")]] thread_local bool probing = false;

}  // namespace

const Host &find_host(const void *caller) {
    const Host *now = served.load(std::memory_order_acquire);
    if (now != nullptr && in_shim(caller)) return *now;
    const Scope scope(caller);
    // These two identify a Lua. The other functions are looked up once for each Lua, because a host may make
    // many states.
    decltype(&::luaL_newstate) luaL_newstate = nullptr;
    decltype(&::lua_newstate) lua_newstate = nullptr;
    scope.find("luaL_newstate", &luaL_newstate);
    scope.find("lua_newstate", &lua_newstate);
    const Host *first = found.load(std::memory_order_acquire);
    for (const Host *host = first; host != nullptr; host = host->next) {
        if (host->luaL_newstate == luaL_newstate && host->lua_newstate == lua_newstate) return *host;
    }
    Host *made = make_host(scope);
    made->next = first;
    while (!found.compare_exchange_weak(made->next, made, std::memory_order_acq_rel)) {
    }
    return *made;
}

bool serve(const Host &host) {
    if (probing) return false;
    if (!host.is_luajit) {
        tell("this host's Lua is not LuaJIT: its states keep their own allocator");
        return false;
    }
    const Host *now = served.load(std::memory_order_acquire);
    if (now == nullptr) {
        if (host.takes_no_allocator.load(std::memory_order_relaxed)) return false;
        probing = true;
        const bool usable = takes_allocators(host);
        probing = false;
        if (!usable) {
            host.takes_no_allocator.store(true, std::memory_order_relaxed);
            tell("this LuaJIT takes no allocator (it was built without GC64): its states keep their own");
            return false;
        }
        if (served.compare_exchange_strong(now, &host, std::memory_order_acq_rel)) return true;
    }
    // Two threads may each have made a Host of the same Lua.
    if (now->lua_newstate == host.lua_newstate) return true;
    tell("a second LuaJIT in this process: its states keep their own allocator");
    return false;
}

const Host &served_host() {
    const Host *now = served.load(std::memory_order_acquire);
    if (now != nullptr) return *now;
    static std::atomic<const Host *> seen{nullptr};
    now = seen.load(std::memory_order_acquire);
    if (now != nullptr) return *now;
    const Host &host = find_host(reinterpret_cast<const void *>(&served_host));
    if (host.is_luajit) seen.store(&host, std::memory_order_release);
    return host;
}

void tell(const char *text) {
    if (environment_settings().verbose) std::fprintf(stderr, "jemalloc_lua: %s\n", text);
}

}  // namespace jemalloc_lua
