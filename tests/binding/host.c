/* A host as anyone writes it: links the library, makes a state, runs a script with its arguments. */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s SCRIPT [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    lua_State *L = jemalloc_lua_newstate();
    if (L == NULL) return 1;
    luaL_openlibs(L);
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    int status = luaL_loadfile(L, argv[1]);
    for (int i = 2; i < argc && status == 0; i++) lua_pushstring(L, argv[i]);
    if (status == 0) status = lua_pcall(L, argc - 2, 0, 0);
    if (status != 0) fprintf(stderr, "%s\n", lua_tostring(L, -1));
    jemalloc_lua_close(L);
    return status != 0;
}
