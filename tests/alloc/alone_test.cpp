// The allocator by itself, without binding/: it must link, and make states without the Lua module.

#include <gtest/gtest.h>

#include <cerrno>

#include "jemalloc_lua.h"
#include "state/extras.h"

extern "C" {
#include <lauxlib.h>
#include <lualib.h>
}

namespace {

int status = 0;
int count = 0;

int extra(lua_State *L) {
    ++count;
    lua_pushinteger(L, 7);
    lua_setglobal(L, "extra");
    return status;
}

TEST(Alone, EachStateGetsTheExtrasThatTheProgramListsAndNoOthers) {
    lua_State *L = jemalloc_lua_newstate();
    ASSERT_NE(nullptr, L);
    EXPECT_EQ(1, count);
    luaL_openlibs(L);
    EXPECT_EQ(0, luaL_dostring(L, "return extra, package.preload.jemalloc")) << lua_tostring(L, -1);
    EXPECT_EQ(7, lua_tointeger(L, -2));
    EXPECT_TRUE(lua_isnil(L, -1));
    lua_close(L);
}

TEST(Alone, AnExtraThatFailsMakesNoState) {
    status = LUA_ERRMEM;
    errno = 0;
    EXPECT_EQ(nullptr, jemalloc_lua_newstate());
    EXPECT_EQ(ENOMEM, errno);
    status = 0;
}

}  // namespace

const jemalloc_lua::StateExtra jemalloc_lua::state_extras[] = {extra, nullptr};
