/* A child of fork() releases the tcaches that its parent's module made, while threads that used the module
 * are gone. jemalloc forgets tcaches in the child, and its list of them leads through those threads' memory.
 */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { threads = 12 };

static pthread_barrier_t ready;

static lua_State *new_state(void) {
    lua_State *L = jemalloc_lua_newstate();
    if (L == NULL) exit(2);
    luaL_openlibs(L);
    return L;
}

static void run(lua_State *L, const char *program) {
    if (luaL_dostring(L, program) == 0) return;
    printf("tcache_fork_host: %s\n", lua_tostring(L, -1));
    exit(2);
}

static void *use_the_module(void *unused) {
    run(new_state(), "local J = require 'jemalloc' J.dallocx(J.mallocx(64))");
    pthread_barrier_wait(&ready);
    pause();
    return unused;
}

static void *nothing(void *unused) {
    return unused;
}

int main(void) {
    lua_State *L = new_state();
    pthread_t thread;
    pid_t child;
    int i, status;
    pthread_barrier_init(&ready, NULL, 2);
    run(L, "J = require 'jemalloc' made = {}");
    for (i = 0; i < threads; ++i) {
        pthread_create(&thread, NULL, use_the_module, NULL);
        pthread_barrier_wait(&ready);
        run(L, "local t = J.tcache() J.dallocx(J.mallocx(64, t:flags()), t:flags()) made[#made + 1] = t");
    }
    child = fork();
    if (child == 0) {
        /* glibc unmaps the stacks of the threads that the child does not have. */
        pthread_create(&thread, NULL, nothing, NULL);
        pthread_join(thread, NULL);
        run(L, "local ok, err = made[1]:flush() assert(ok == nil and err == J.EINVAL)");
        run(L, "made[1]:release() made = nil J.tcache():flush() collectgarbage()");
        jemalloc_lua_close(L);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (status != 0) {
        printf("tcache_fork_host: the child ended with status %#x\n", (unsigned)status);
        _exit(1);
    }
    puts("right in the child");
    fflush(stdout);
    _exit(0);
}
