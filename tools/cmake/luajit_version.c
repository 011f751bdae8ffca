/* Prints which LuaJIT the header is of, and which the library. */
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>

int main(void) {
    lua_State *L = luaL_newstate();
    if (L == NULL) return 1;
    luaL_openlibs(L);
    lua_getglobal(L, "jit");
    lua_getfield(L, -1, "version");
    printf("header: %s\nlibrary: %s\n", LUAJIT_VERSION, lua_tostring(L, -1));
    lua_close(L);
    return 0;
}
