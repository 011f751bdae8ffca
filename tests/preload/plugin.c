/* A plugin with a Lua of its own; prints whose allocator its states have, as host.c does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

#include "jemalloc_lua.h"

/* Built with optimisation, it ends with a jump, so that luaL_newstate() returns into this function's caller.
 */
lua_State *make_state(void) {
    return luaL_newstate();
}

static int show(lua_State *L) {
    int (*get_stats)(lua_State *, jemalloc_lua_stats *);
    jemalloc_lua_stats stats = {.size = sizeof stats};
    if (L == NULL) return 1;
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "jemalloc_lua_get_stats");
    printf("%s\n", get_stats != NULL && get_stats(L, &stats) == 0 ? "ours" : "own");
    lua_close(L);
    return 0;
}

int run(void) {
    return show(luaL_newstate());
}

int run_on(void *L) {
    return show(L);
}
