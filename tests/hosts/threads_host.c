/*
 * A host with a pool of threads and a pool of states: a thread takes whichever state is free, runs a request
 * in it and puts it back, as servers do. Now and then a state is closed by whoever holds it and another made.
 *
 *     threads_host CONF    exits 0 if every request was answered right
 */
#include <jemalloc_lua.h>

#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { thread_count = 4, state_count = 10, request_count = 400 };

static jemalloc_lua_options options;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static lua_State *idle[state_count]; /* a stack */
static int idle_count;

static const char handler[] =
    "local cache, n = {}, 0\n"
    "function handle(id)\n"
    "    n = n + 1\n"
    "    local words = {}\n"
    "    for i = 1, 200 do words[i] = ('request %d word %d'):format(id, i) end\n"
    "    cache[n % 20] = table.concat(words, ' ')\n"
    "    return #cache[n % 20] + id\n"
    "end\n"
    "function expected(id) return 199 + 200 * #('request ' .. id .. ' word ') + 9 + 90 * 2 + 101 * 3 + id "
    "end";

static void fail(const char *what) {
    fprintf(stderr, "threads_host: %s\n", what);
    exit(1);
}

static lua_State *open_state(void) {
    lua_State *L = jemalloc_lua_newstate_opts(&options);
    if (L == NULL) fail("no state");
    luaL_openlibs(L);
    if (luaL_dostring(L, handler)) fail(lua_tostring(L, -1));
    return L;
}

static double call(lua_State *L, const char *name, int id) {
    double result;
    lua_getglobal(L, name);
    lua_pushinteger(L, id);
    if (lua_pcall(L, 1, 1, 0) != 0) fail(lua_tostring(L, -1));
    result = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return result;
}

static void *serve(void *first) {
    int id = *(const int *)first;
    int i;
    for (i = 0; i < request_count; ++i, id += thread_count) {
        lua_State *L;
        pthread_mutex_lock(&lock);
        L = idle[--idle_count];
        pthread_mutex_unlock(&lock);
        if (call(L, "handle", id) != call(L, "expected", id)) fail("a wrong answer");
        if (id % 23 == 0) {
            if (id % 2 == 0) {
                lua_close(L);
            } else {
                jemalloc_lua_close(L);
            }
            L = open_state();
        }
        pthread_mutex_lock(&lock);
        /* The longest idle one is next. */
        memmove(idle + 1, idle, (size_t)idle_count * sizeof *idle);
        idle[0] = L;
        ++idle_count;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[thread_count];
    int ids[thread_count];
    char message[512];
    int i;
    if (argc != 2) {
        fprintf(stderr, "usage: threads_host CONF\n");
        return 2;
    }
    jemalloc_lua_options_init(&options);
    if (jemalloc_lua_options_parse(&options, argv[1], message, sizeof message) != 0) {
        fprintf(stderr, "threads_host: %s\n", message);
        return 2;
    }
    for (i = 0; i < state_count; ++i) idle[idle_count++] = open_state();
    for (i = 0; i < thread_count; ++i) {
        ids[i] = i;
        if (pthread_create(&threads[i], NULL, serve, &ids[i]) != 0) fail("no thread");
    }
    for (i = 0; i < thread_count; ++i) pthread_join(threads[i], NULL);
    while (idle_count > 0) jemalloc_lua_close(idle[--idle_count]);
    printf("%s: every request answered right\n", argv[1]);
    return 0;
}
