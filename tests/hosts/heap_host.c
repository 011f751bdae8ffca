/*
 * A host that brings a Lua of its own and calls lua_newstate() itself. This one source is built with
 * PUC Lua 5.1 and with PUC Lua 5.4; our library is the same in both, as in LuaJIT's hosts.
 *
 *     heap_host CONF    runs programs in states on heaps with these options; exits 0 if all went right
 */
#include <jemalloc_lua.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

/* Runs in Lua 5.1 as in 5.4. Raises an error if a value is not what it should be. */
static const char program[] =
    "local words, count = {}, 0\n"
    "for i = 1, 5000 do words[i] = ('w'):rep(i % 50) .. i end\n"
    "for i = 1, 5000 do words[words[i]] = i end\n"
    "for i = 1, 5000 do assert(words[words[i]] == i) end\n"
    "local gather = {}\n"
    "for i = 1, 300 do\n"
    "    local co = coroutine.wrap(function(n) for k = 1, n do coroutine.yield(k) end end)\n"
    "    for k = 1, i % 9 do count = count + co(i) end\n"
    "    gather[i] = function() return i + count end\n"
    "end\n"
    "assert(gather[300]() == 300 + count)\n"
    "local s = table.concat(words, ',')\n"
    "assert(#s > 100000 and s:find('w5000', 1, true) == nil)\n"
    "for i = 1, 40 do s = s .. i words[i] = s end\n"
    "local f = (loadstring or load)('return ' .. ('1+'):rep(150) .. '0')\n"
    "assert(f() == 150)\n"
    "words = nil collectgarbage() collectgarbage()\n"
    "kept = {}\n"
    "for i = 1, 2000 do kept[i] = setmetatable({i}, {__gc = function() closed = (closed or 0) + 1 end}) "
    "end\n";

static const char runaway[] = "local t = {} for i = 1, 1e8 do t[i] = {i} end";

static jemalloc_lua_options options_of(const char *conf) {
    jemalloc_lua_options options;
    char message[512];
    jemalloc_lua_options_init(&options);
    if (jemalloc_lua_options_parse(&options, conf, message, sizeof message) != 0) {
        fprintf(stderr, "heap_host: %s\n", message);
        exit(2);
    }
    return options;
}

static int open_libraries(lua_State *L) {
    luaL_openlibs(L);
    return 0;
}

static void run(lua_State *L, const char *text, const char *expected_error) {
    const char *error = NULL;
    if (luaL_loadstring(L, text) != 0 || lua_pcall(L, 0, 0, 0) != 0) error = lua_tostring(L, -1);
    if ((error == NULL) != (expected_error == NULL) ||
        (error != NULL && strstr(error, expected_error) == NULL)) {
        fprintf(stderr, "heap_host: %s instead of %s\n", error != NULL ? error : "no error",
                expected_error != NULL ? expected_error : "no error");
        exit(1);
    }
    if (error != NULL) lua_pop(L, 1);
}

static lua_State *open_state(jemalloc_lua_heap *heap) {
    lua_State *L = lua_newstate(jemalloc_lua_heap_alloc(heap), heap);
    CHECK(L != NULL);
    lua_pushcfunction(L, open_libraries);
    CHECK(lua_pcall(L, 0, 0, 0) == 0);
    return L;
}

/* Programs run as they should, and statistics tell. */
static void test_programs(const jemalloc_lua_options *options) {
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(options);
    jemalloc_lua_stats stats = {0};
    lua_State *L;
    int i;
    CHECK(heap != NULL);
    L = open_state(heap);
    for (i = 0; i < 5; ++i) run(L, program, NULL);
    stats.size = sizeof stats;
    CHECK(jemalloc_lua_get_stats(L, &stats) == 0);
    CHECK(stats.footprint >= stats.live && stats.peak >= stats.footprint && stats.live > 100000);
    (void)jemalloc_lua_trim(L);
    run(L, program, NULL);
    lua_close(L);
    /* The heap outlives its state and serves another. */
    L = open_state(heap);
    run(L, program, NULL);
    lua_close(L);
    jemalloc_lua_heap_destroy(heap);
}

/* Two states at a time, each on its own heap, one closed before the other. */
static void test_two_states(const jemalloc_lua_options *options) {
    jemalloc_lua_heap *heaps[2];
    lua_State *states[2];
    int i;
    for (i = 0; i < 2; ++i) {
        heaps[i] = jemalloc_lua_heap_create(options);
        CHECK(heaps[i] != NULL);
        states[i] = open_state(heaps[i]);
        run(states[i], "kept = {} for i = 1, 10000 do kept[i] = tostring(i) end", NULL);
    }
    lua_close(states[0]);
    jemalloc_lua_heap_destroy(heaps[0]);
    run(states[1], "for i = 1, 10000 do assert(kept[i] == tostring(i)) end", NULL);
    lua_close(states[1]);
    jemalloc_lua_heap_destroy(heaps[1]);
}

/* A runaway program gets the error that can be caught, and the state goes on. */
static void test_limit(jemalloc_lua_options options) {
    jemalloc_lua_heap *heap;
    lua_State *L;
    int i;
    options.limit = 8 << 20;
    heap = jemalloc_lua_heap_create(&options);
    CHECK(heap != NULL);
    L = open_state(heap);
    for (i = 0; i < 3; ++i) {
        run(L, runaway, "not enough memory");
        lua_gc(L, LUA_GCCOLLECT, 0);
        run(L, "local t = {} for i = 1, 1000 do t[i] = {i} end", NULL);
    }
    lua_close(L);
    jemalloc_lua_heap_destroy(heap);
}

/* Memory that ends while libraries are opened, at every place. */
static void test_tight_limits(jemalloc_lua_options options) {
    size_t limit;
    for (limit = 24 << 10; limit < 400 << 10; limit += 777) {
        jemalloc_lua_heap *heap;
        lua_State *L;
        options.limit = limit;
        heap = jemalloc_lua_heap_create(&options);
        if (heap == NULL) continue;
        L = lua_newstate(jemalloc_lua_heap_alloc(heap), heap);
        if (L != NULL) {
            lua_pushcfunction(L, open_libraries);
            (void)lua_pcall(L, 0, 0, 0);
            lua_close(L);
        }
        jemalloc_lua_heap_destroy(heap);
    }
}

int main(int argc, char **argv) {
    jemalloc_lua_options options;
    if (argc != 2) {
        fprintf(stderr, "usage: heap_host CONF\n");
        return 2;
    }
    options = options_of(argv[1]);
    test_programs(&options);
    test_two_states(&options);
    test_limit(options);
    test_tight_limits(options);
    printf("%s on %s: right\n", LUA_VERSION, argv[1]);
    return 0;
}
