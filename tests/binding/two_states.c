/* Arenas and tcaches of one state, in the hands of another: refused by their numbers; and a block that
   another state frees, into whatever cache, does not come out of it when its arena is gone. */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lua_State *one, *two;

static lua_State *open_state(void) {
    lua_State *L = jemalloc_lua_newstate();
    if (L == NULL) exit(2);
    luaL_openlibs(L);
    return L;
}

static void run(lua_State *L, const char *text) {
    if (luaL_dostring(L, text) == 0) return;
    fprintf(stderr, "two_states: %s\n", lua_tostring(L, -1));
    exit(1);
}

/* Copies a global number. */
static void send(const char *name) {
    lua_getglobal(one, name);
    lua_pushnumber(two, lua_tonumber(one, -1));
    lua_setglobal(two, name);
    lua_pop(one, 1);
}

static void *release(void *unused) {
    run(one, "a:release()");
    return unused;
}

/* A script that has made an arena by number may empty it, until a heap lies there. */
static void test_heap_on_an_arena(void) {
    jemalloc_lua_options options;
    lua_State *L;
    jemalloc_lua_options_init(&options);
    run(two,
        "made = J.mallctl_read('arenas.create') reset = ('arena.%d.reset'):format(made)\n"
        "assert(J.mallctl_read(reset))");
    lua_getglobal(two, "made");
    options.arena = (int)lua_tointeger(two, -1);
    lua_pop(two, 1);
    L = jemalloc_lua_newstate_opts(&options);
    if (L == NULL) exit(2);
    run(two,
        "local done, err = J.mallctl_read(reset) assert(not done and err == J.EPERM)\n"
        "J.dallocx(J.mallocx(64, J.MALLOCX_ARENA(made)))");
    luaL_openlibs(L);
    run(L, "kept = {} for i = 1, 1e5 do kept[i] = { i } end assert(kept[99999][1] == 99999)");
    jemalloc_lua_close(L);
}

int main(void) {
    const char *const begin =
        "J, ffi = require 'jemalloc', require 'ffi'\n"
        "function number(p) return tonumber(ffi.cast('uintptr_t', p)) end\n"
        "function block(n) return ffi.cast('void *', n) end\n";
    pthread_t thread;
    one = open_state();
    two = open_state();
    run(one, begin);
    run(two, begin);
    run(one,
        "a, t = J.arena(), J.tcache() index, id = a:index(), t:id()\n"
        "p, q, r = number(a:mallocx(64)), number(a:mallocx(64)), number(a:mallocx(64))");
    send("index"), send("id"), send("p"), send("q"), send("r");
    run(two,
        "assert(not pcall(J.mallocx, 64, J.MALLOCX_ARENA(index)))\n"
        "assert(not pcall(J.mallocx, 64, J.MALLOCX_TCACHE(id)))\n"
        "assert(not J.mallctl_read(('arena.%d.reset'):format(index)))\n"
        "assert(not J.mallctl_write('tcache.flush', id))\n"
        "t, own = J.tcache(), J.arena()\n"
        "J.dallocx(block(p)) J.dallocx(block(q), t:flags()) own:dallocx(block(r))\n");
    pthread_create(&thread, NULL, release, NULL);
    pthread_join(thread, NULL);
    run(two,
        "for _ = 1, 200 do\n"
        "    for _, flags in ipairs({ 0, t:flags(), own:flags() }) do\n"
        "        local n = number(J.mallocx(64, flags))\n"
        "        assert(n ~= p and n ~= q and n ~= r, 'a block of an arena that is gone')\n"
        "    end\n"
        "end\n");
    test_heap_on_an_arena();
    jemalloc_lua_close(one);
    jemalloc_lua_close(two);
    puts("right");
    return 0;
}
