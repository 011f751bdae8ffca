/* A host in C, as small as it gets: a state, a script, its statistics. */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>

int main(void) {
    jemalloc_lua_stats stats;
    char text[4096];
    lua_State *L = jemalloc_lua_newstate();
    if (L == NULL) return 1;
    luaL_openlibs(L);
    if (luaL_dostring(L, "t = {} for i = 1, 1e5 do t[i] = {i} end print('sum', t[1][1] + t[1e5][1])"))
        return 2;
    stats.size = sizeof stats;
    if (jemalloc_lua_get_stats(L, &stats)) return 3;
    jemalloc_lua_stats_format(&stats, 1, text, sizeof text);
    puts(text);
    jemalloc_lua_close(L);
    /* 100,000 tables of one number each can't take less. */
    return stats.live > 4000000 && stats.footprint >= stats.live ? 0 : 4;
}
