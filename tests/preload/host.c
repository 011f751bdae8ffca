/*
 * A host as users write them: it knows nothing of the shim, and asks the process only what it came to have.
 *
 *     host MODE
 *     host script CODE
 *
 * prints one line for each state that it made: "ours" or "own" (whose allocator it has), and the sum that a
 * script in it came to.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jemalloc_lua.h"

static const char *whose(lua_State *L) {
    int (*get_stats)(lua_State *, jemalloc_lua_stats *);
    jemalloc_lua_stats stats = {.size = sizeof stats};
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "jemalloc_lua_get_stats");
    return get_stats != NULL && get_stats(L, &stats) == 0 ? "ours" : "own";
}

static volatile sig_atomic_t stop_signals;

static void *send_signals(void *thread) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (!stop_signals) {
        pthread_kill(*(pthread_t *)thread, SIGUSR2);
        usleep(300);
    }
    return NULL;
}

static void run(lua_State *L) {
    luaL_openlibs(L);
    if (luaL_dostring(L,
                      "local t = {} for i = 1, 1e5 do t[i] = {i} end "
                      "local sum = 0 for i = 1, #t do sum = sum + t[i][1] end t = nil "
                      "collectgarbage() return sum") != 0) {
        printf("error: %s\n", lua_tostring(L, -1));
        exit(1);
    }
    printf("%s %.0f\n", whose(L), lua_tonumber(L, -1));
    fflush(stdout);
}

/* The module jemalloc, and errors that come out of its C and its Lua functions. */
static void use_module(void) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (luaL_dostring(L,
                      "local J = require 'jemalloc' "
                      "local b = J.buffer('int', 1000) b:fill(7) b:free() "
                      "assert(J.heap.trim()) assert(J.heap.limit(32 * 2^20)) "
                      "assert(J.malloc_stats_print(true, 'gblxe'):find('jemalloc')) "
                      "assert(not pcall(J.heap.limit, {})) assert(not pcall(J.mallocx, 'many')) "
                      "print(J.provider(), J.heap.stats().limit, J.mallctl_read('version'):match('^%d')) "
                      "for line in io.lines('/proc/self/maps') do "
                      "  local file = line:match('/[^/]*jemalloc%.so.*') or line:match('/libluajit.*') "
                      "  if file and line:find('r-xp', 1, true) then print(file) end "
                      "end") != 0) {
        printf("error: %s\n", lua_tostring(L, -1));
    }
    fflush(stdout);
    lua_close(L);
}

static void *malloc_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
    (void)ud;
    (void)osize;
    if (nsize != 0) return realloc(ptr, nsize);
    free(ptr);
    return NULL;
}

static void *thread(void *unused) {
    (void)unused;
    for (int i = 0; i < 20; ++i) {
        lua_State *L = luaL_newstate();
        run(L);
        lua_close(L);
    }
    return NULL;
}

static void on_signal(int number) {
    (void)number;
    puts("the host's");
}

static void raise_signal(void) {
    raise(SIGUSR2);
}

int main(int argc, char **argv) {
    const char *mode = argc >= 2 ? argv[1] : "";
    const lua_Alloc internal = (lua_Alloc)(uintptr_t)(1237 << 4); /* lj_state.h */

    if (strcmp(mode, "close") == 0) {
        lua_State *L = luaL_newstate();
        run(L);
        lua_close(L);
    } else if (strcmp(mode, "leave-open") == 0) {
        run(luaL_newstate());
        run(luaL_newstate());
    } else if (strcmp(mode, "internal") == 0) {
        lua_State *L = lua_newstate(internal, NULL);
        printf("panic %s\n", lua_atpanic(L, NULL) == NULL ? "none" : "set");
        run(L);
        lua_close(L);
    } else if (strcmp(mode, "panic") == 0) {
        lua_State *L = luaL_newstate();
        printf("panic %s\n", lua_atpanic(L, NULL) == NULL ? "none" : "set");
        lua_close(L);
    } else if (strcmp(mode, "own") == 0) {
        lua_State *L = lua_newstate(malloc_alloc, NULL);
        run(L);
        lua_close(L);
    } else if (strcmp(mode, "fork") == 0) {
        lua_State *L = luaL_newstate();
        run(L);
        for (int i = 0; i < 3; ++i) {
            if (fork() == 0) {
                lua_State *mine = luaL_newstate();
                run(L);
                run(mine);
                lua_close(mine);
                lua_close(L);
                return 0;
            }
            wait(NULL);
        }
        lua_close(L);
    } else if (strcmp(mode, "threads") == 0) {
        pthread_t threads[4];
        for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, thread, NULL);
        for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
    } else if (strcmp(mode, "states") == 0) {
        for (int i = 0; i < 1000; ++i) lua_close(luaL_newstate());
        run(luaL_newstate());
    } else if (strcmp(mode, "module") == 0) {
        use_module();
    } else if (strcmp(mode, "wait") == 0) {
        run(luaL_newstate());
        run(luaL_newstate());
        while (getchar() != EOF) {
        }
    } else if (strcmp(mode, "signal") == 0) {
        lua_State *L = luaL_newstate();
        run(L);
        raise(SIGUSR2);
        lua_close(L);
    } else if (strcmp(mode, "signals") == 0) {
        /* One comes wherever the making and the closing of states happens to be. */
        pthread_t sender;
        pthread_t self = pthread_self();
        lua_State *stays = luaL_newstate();
        alarm(120);
        pthread_create(&sender, NULL, send_signals, &self);
        for (int i = 0; i < 3000; i++) lua_close(luaL_newstate());
        stop_signals = 1;
        pthread_join(sender, NULL);
        lua_close(stays);
    } else if (strcmp(mode, "own-signal") == 0) {
        signal(SIGUSR2, on_signal);
        lua_State *L = luaL_newstate();
        raise(SIGUSR2);
        lua_close(L);
    } else if (strcmp(mode, "script") == 0 && argc == 3) {
        lua_State *L = luaL_newstate();
        luaL_openlibs(L);
        if (luaL_dostring(L, argv[2]) != 0) printf("error: %s\n", lua_tostring(L, -1));
        lua_close(L);
    } else if (strcmp(mode, "signal-in-fork") == 0) {
        lua_State *L;
        /* What was registered first is called last, when the shim is ready for the fork. */
        pthread_atfork(raise_signal, NULL, NULL);
        L = luaL_newstate();
        if (fork() == 0) _exit(0);
        wait(NULL);
        fputs("after the fork\n", stderr);
        lua_close(L);
    } else {
        fprintf(stderr, "host: unknown mode '%s'\n", mode);
        return 2;
    }
    return 0;
}
