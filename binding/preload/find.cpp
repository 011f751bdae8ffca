// Finds the host's Lua as the dynamic linker would for the caller, and decides which LuaJIT is served. Takes
// no lock, so a child of fork() never finds one held.

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

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
    static Scope of(const void *caller) {
        Dl_info info;
        link_map *map = nullptr;
        if (dladdr1(caller, &info, reinterpret_cast<void **>(&map), RTLD_DL_LINKMAP) == 0)
            return Scope(nullptr);
        return of_object(map->l_name);
    }
    // The object of a name as the dynamic linker has it; the program's is empty.
    static Scope of_object(const char *name) {
        return Scope(dlopen(*name == '\0' ? nullptr : name, RTLD_LAZY | RTLD_NOLOAD));
    }
    Scope(Scope &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Scope &operator=(Scope &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
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
    explicit Scope(void *handle) : handle_(handle) {}

    void *handle_;
};

// The two functions by which a Lua is known.
struct Makers {
    explicit Makers(const Scope &scope) {
        scope.find("luaL_newstate", &luaL_newstate);
        scope.find("lua_newstate", &lua_newstate);
    }
    bool operator==(const Makers &) const = default;
    bool are_missing() const { return luaL_newstate == nullptr && lua_newstate == nullptr; }

    decltype(&::luaL_newstate) luaL_newstate = nullptr;
    decltype(&::lua_newstate) lua_newstate = nullptr;
};

// A caller that ends with the call jumps to it, so the return address is that of a caller further up, whose
// object may know nothing of Lua. Then this finds the only Lua of the process. False: there is none, or more
// than one, so it can't tell which was meant.
bool find_elsewhere(Scope *scope, Makers *makers) {
    std::vector<std::string> objects;
    dl_iterate_phdr(
        [](dl_phdr_info *info, std::size_t, void *names) {
            static_cast<std::vector<std::string> *>(names)->emplace_back(info->dlpi_name);
            return 0;
        },
        &objects);
    for (const std::string &object : objects) {
        Scope other = Scope::of_object(object.c_str());
        const Makers found_there(other);
        if (found_there.are_missing() || found_there == *makers) continue;
        if (!makers->are_missing()) {
            static std::atomic_flag told;
            if (!told.test_and_set())
                tell("this process has more than one Lua, and its call does not show which is meant");
            return false;
        }
        *scope = std::move(other);
        *makers = found_there;
    }
    return !makers->are_missing();
}

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
    Scope scope = Scope::of(caller);
    Makers makers(scope);
    if (makers.are_missing() && !find_elsewhere(&scope, &makers)) {
        static const Host none;
        return none;
    }
    // The other functions are looked up once for each Lua, because a host may make many states.
    const Host *first = found.load(std::memory_order_acquire);
    for (const Host *host = first; host != nullptr; host = host->next) {
        if (host->luaL_newstate == makers.luaL_newstate && host->lua_newstate == makers.lua_newstate)
            return *host;
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
