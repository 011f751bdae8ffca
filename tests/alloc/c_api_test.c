/*
 * The C API from C: that the header is C99, and each function once as a C host calls it. What the functions
 * do in detail is tested from C++.
 */
#include <jemalloc_lua.h>

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *phase = "";

static void start_phase(const char *name) {
    fprintf(stderr, "=== test %s\n", name);
    phase = name;
}

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, phase, #condition); \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

static int run(lua_State *L, const char *program) {
    if (luaL_loadstring(L, program) == 0 && lua_pcall(L, 0, 0, 0) == 0) return 0;
    return 1; /* the message is left on the stack */
}

static void test_newstate(void) {
    lua_State *L;
    start_phase("newstate");
    L = jemalloc_lua_newstate();
    CHECK(L != NULL);
    luaL_openlibs(L);
    CHECK(run(L, "t = {} for i = 1, 1000 do t[i] = tostring(i) end") == 0);
    jemalloc_lua_close(L);
    jemalloc_lua_close(NULL);
}

static void test_options(void) {
    jemalloc_lua_options options, before;
    char text[1024];
    lua_State *L;
    start_phase("options");
    jemalloc_lua_options_init(&options);
    CHECK(options.size == sizeof options);
    CHECK(options.arena == JEMALLOC_LUA_ARENA_AUTO);
    CHECK(options.dirty_decay_ms == JEMALLOC_LUA_DECAY_DEFAULT);
    CHECK(jemalloc_lua_options_parse(&options, "limit:16M,arena:own", text, sizeof text) == 0);
    CHECK(options.limit == 16 << 20);
    CHECK(options.arena == JEMALLOC_LUA_ARENA_OWN);
    CHECK(jemalloc_lua_options_format(&options, 0, text, sizeof text) == (int)strlen(text));
    CHECK(strcmp(text, "arena:own,limit:16M") == 0);

    before = options;
    CHECK(jemalloc_lua_options_parse(&options, "limit:12Q", text, sizeof text) == EINVAL);
    CHECK(strstr(text, "limit") != NULL && strstr(text, "12Q") != NULL);
    CHECK(memcmp(&before, &options, sizeof options) == 0);
    CHECK(jemalloc_lua_options_parse(&options, "limit:12Q", NULL, 0) == EINVAL);

    CHECK(jemalloc_lua_options_help(text, sizeof text) > 0);
    CHECK(strstr(text, "limit") != NULL);

    L = jemalloc_lua_newstate_opts(&options);
    CHECK(L != NULL);
    jemalloc_lua_close(L);
    options.front = 99;
    errno = 0;
    CHECK(jemalloc_lua_newstate_opts(&options) == NULL);
    CHECK(errno == EINVAL);
}

static void test_limit(void) {
    jemalloc_lua_options options;
    lua_State *L;
    start_phase("limit");
    jemalloc_lua_options_init(&options);
    options.limit = 8 << 20;
    L = jemalloc_lua_newstate_opts(&options);
    CHECK(L != NULL);
    luaL_openlibs(L);
    CHECK(run(L, "local t = {} for i = 1, 1e8 do t[i] = {} end") != 0);
    CHECK(strcmp(lua_tostring(L, -1), "not enough memory") == 0);
    lua_pop(L, 1);
    lua_gc(L, LUA_GCCOLLECT, 0);
    CHECK(run(L, "x = ('x'):rep(1000)") == 0);
    CHECK(jemalloc_lua_set_limit(L, 64 << 20) == 0);
    CHECK(run(L, "x = ('x'):rep(20 * 2^20)") == 0);
    lua_close(L);
    CHECK(jemalloc_lua_set_limit(NULL, 1) == EINVAL);
}

static void test_stats(void) {
    jemalloc_lua_stats stats;
    char text[2048];
    unsigned arena = 0;
    lua_State *L;
    lua_State *foreign;
    start_phase("stats");
    L = jemalloc_lua_newstate();
    CHECK(L != NULL);
    memset(&stats, 0, sizeof stats);
    CHECK(jemalloc_lua_get_stats(L, &stats) == EINVAL); /* its size is not set */
    stats.size = sizeof stats;
    CHECK(jemalloc_lua_get_stats(L, &stats) == 0);
    CHECK(stats.live > 0 && stats.footprint >= stats.live && stats.peak >= stats.footprint);
    CHECK(jemalloc_lua_get_arena(L, &arena) == 0);
    CHECK(arena == stats.arena);
    CHECK(jemalloc_lua_get_arena(L, NULL) == EINVAL);
    CHECK(jemalloc_lua_stats_format(&stats, 0, text, sizeof text) == (int)strlen(text));
    CHECK(strstr(text, "footprint") != NULL);
    CHECK(jemalloc_lua_stats_format(&stats, 1, text, sizeof text) == (int)strlen(text));
    CHECK(text[0] == '{' && text[strlen(text) - 1] == '}');
    (void)jemalloc_lua_trim(L);
    jemalloc_lua_close(L);

    foreign = luaL_newstate();
    CHECK(jemalloc_lua_get_stats(foreign, &stats) == EINVAL);
    arena = 12;
    CHECK(jemalloc_lua_get_arena(foreign, &arena) == EINVAL && arena == 12);
    CHECK(jemalloc_lua_set_limit(foreign, 1) == EINVAL);
    CHECK(run(foreign, "x = 1 .. 2") == 0);
    CHECK(jemalloc_lua_trim(foreign) == 0);
    CHECK(jemalloc_lua_get_stats(NULL, &stats) == EINVAL);
    CHECK(jemalloc_lua_get_arena(NULL, &arena) == EINVAL);
    CHECK(jemalloc_lua_trim(NULL) == 0);
    jemalloc_lua_close(foreign);
}

static void test_heap(void) {
    jemalloc_lua_heap *heap;
    lua_State *L;
    start_phase("heap");
    heap = jemalloc_lua_heap_create(NULL);
    CHECK(heap != NULL);
    L = lua_newstate(jemalloc_lua_heap_alloc(heap), heap);
    CHECK(L != NULL);
    luaL_openlibs(L);
    CHECK(run(L, "t = {} for i = 1, 1000 do t[i] = {i} end") == 0);
    lua_close(L);
    jemalloc_lua_heap_destroy(heap);
    jemalloc_lua_heap_destroy(NULL);
    CHECK(jemalloc_lua_heap_alloc(NULL) == NULL);
}

int main(void) {
    test_newstate();
    test_options();
    test_limit();
    test_stats();
    test_heap();
    fprintf(stderr, "PASS\n");
    return 0;
}
