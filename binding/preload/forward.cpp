// What the allocator and the Lua module `jemalloc` call of Lua: hidden functions of Lua's names that go on to
// the LuaJIT that is served. Errors that it raises pass through these functions, which hold nothing.

#include <cstdarg>
#include <cstddef>
#include <tuple>

#include "host.h"

using jemalloc_lua::Host;
using jemalloc_lua::served_host;

namespace {

// The result and the parameters of a function, from its declaration in Lua's headers.
template <class F>
struct Signature;
template <class R, class... P>
struct Signature<R(P...)> {
    using Result = R;
    template <std::size_t i>
    using Parameter = std::tuple_element_t<i, std::tuple<P...>>;
};

}  // namespace

#define RESULT(name) Signature<decltype(::name)>::Result
#define PARAMETER(name, i) Signature<decltype(::name)>::Parameter<i>
#define JEMALLOC_LUA_DEFINE(name, parameters) JEMALLOC_LUA_DEFINE_##parameters(name)
#define JEMALLOC_LUA_DEFINE_by_hand(name)
#define JEMALLOC_LUA_DEFINE_1(name)           \
    RESULT(name) name(PARAMETER(name, 0) a) { \
        return served_host().name(a);         \
    }
#define JEMALLOC_LUA_DEFINE_2(name)                                 \
    RESULT(name) name(PARAMETER(name, 0) a, PARAMETER(name, 1) b) { \
        return served_host().name(a, b);                            \
    }
#define JEMALLOC_LUA_DEFINE_3(name)                                                       \
    RESULT(name) name(PARAMETER(name, 0) a, PARAMETER(name, 1) b, PARAMETER(name, 2) c) { \
        return served_host().name(a, b, c);                                               \
    }
#define JEMALLOC_LUA_DEFINE_4(name)                                                                \
    RESULT(name)                                                                                   \
    name(PARAMETER(name, 0) a, PARAMETER(name, 1) b, PARAMETER(name, 2) c, PARAMETER(name, 3) d) { \
        return served_host().name(a, b, c, d);                                                     \
    }

extern "C" {

JEMALLOC_LUA_HOST_FUNCTIONS(JEMALLOC_LUA_DEFINE)

// All that the module does begins here, so a LuaJIT that hides some of the functions has states without it.
int lua_cpcall(lua_State *L, lua_CFunction f, void *ud) {
    const Host &host = served_host();
    return host.is_complete ? host.lua_cpcall(L, f, ud) : 0;
}

// Where no Lua is seen, no state is ours.
lua_Alloc lua_getallocf(lua_State *L, void **ud) {
    const Host &host = served_host();
    return host.lua_getallocf != nullptr ? host.lua_getallocf(L, ud) : nullptr;
}

const char *lua_pushfstring(lua_State *L, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *text = served_host().lua_pushvfstring(L, format, args);
    va_end(args);
    return text;
}
}
