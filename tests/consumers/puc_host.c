/* A host on PUC Lua, which takes a heap of ours by lua_newstate(). */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>

int main(void) {
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(NULL);
    lua_State *L = heap ? lua_newstate(jemalloc_lua_heap_alloc(heap), heap) : NULL;
    if (L == NULL) return 1;
    luaL_openlibs(L);
    if (luaL_dostring(L,
                      "t = {} for i = 1, 1e5 do t[i] = {i} end print('sum', t[1][1] + t[#t][1], _VERSION)"))
        return 2;
    lua_close(L);
    jemalloc_lua_heap_destroy(heap);
    return 0;
}
