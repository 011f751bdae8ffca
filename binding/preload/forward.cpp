// The functions of Lua that the allocator and the Lua module `jemalloc` call: hidden definitions, each of
// which calls the function of the served LuaJIT. A Lua error passes through them without harm, because they
// own nothing.

#include <cstdarg>
#include <cstddef>
#include <tuple>

#include "host.h"

using jemalloc_lua::Host;
using jemalloc_lua::served_host;

namespace {

// The types of a function's result and parameters, from its declaration in Lua's headers.
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

// The module enters each state through this call. If the LuaJIT lacks one of the functions, its states go
// without the module.
int lua_cpcall(lua_State *L, lua_CFunction f, void *ud) {
    const Host &host = served_host();
    return host.is_complete ? host.lua_cpcall(L, f, ud) : 0;
}

// Without a Lua in sight no state can be ours.
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
