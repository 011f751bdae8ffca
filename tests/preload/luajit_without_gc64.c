/*
 * A plugin with what the shim sees of a LuaJIT that was built without GC64: states in the lowest 4 GiB of
 * addresses, and a lua_newstate() that takes no allocator and complains. No system packages one any more.
 *
 * run() makes states, and prints whether they are its own.
 */
#define _GNU_SOURCE
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <sys/mman.h>

static const size_t size = 4096;

lua_State *luaL_newstate(void) {
    void *state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    return state == MAP_FAILED ? NULL : state;
}

lua_State *lua_newstate(lua_Alloc f, void *ud) {
    (void)f;
    (void)ud;
    fputs("Must use luaL_newstate() for 64 bit target\n", stderr);
    return NULL;
}

void lua_close(lua_State *L) {
    munmap(L, size);
}

int luaJIT_setmode(lua_State *L, int index, int mode) {
    (void)L;
    (void)index;
    return mode;
}

int run(void) {
    for (int i = 0; i < 3; ++i) {
        lua_State *L = luaL_newstate();
        puts(L != NULL && (size_t)L >> 32 == 0 ? "own" : "another's");
        lua_close(L);
    }
    return 0;
}
