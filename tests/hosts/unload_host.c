/*
 * A host that has the library by dlopen(), and closes it while a thread that had a state goes on.
 *
 *     unload_host LIBRARY
 */
#include <dlfcn.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>

static void *library;
static pthread_barrier_t barrier;

static void *use(void *unused) {
    lua_State *(*newstate)(void);
    void (*close)(lua_State *);
    lua_State *L;
    *(void **)&newstate = dlsym(library, "jemalloc_lua_newstate");
    *(void **)&close = dlsym(library, "jemalloc_lua_close");
    L = newstate();
    luaL_openlibs(L);
    close(L);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread;
    library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (library == NULL) {
        fprintf(stderr, "unload_host: %s\n", argc == 2 ? dlerror() : "which library?");
        return 2;
    }
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, use, NULL);
    pthread_barrier_wait(&barrier);
    dlclose(library);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    return 0;
}
