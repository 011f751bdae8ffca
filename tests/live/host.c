/*
 * A host that links the library and does what it is told, a line at a time, and then says "ok":
 *
 *     make N          makes N states; they get the next numbers, from 1
 *     run I CODE      runs Lua code in state I
 *     limit I BYTES   sets the limit of state I
 *     turn I N        says ok at once, and sets its limit N times to different values
 *     threads N       has four threads make and close N states each, of which up to ten are open at once
 *     heap            makes a heap without a state
 *     close I         closes state I
 *     reuse PATH      closes all descriptors from 3 up, and opens PATH 200 times
 *     take N          closes descriptor N, makes a state, and opens /dev/null, which gets the lowest number
 *     fork            makes a child that takes the next lines; when it ends, this process takes over again
 *     exit, _exit     ends the process
 */
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jemalloc_lua.h"

enum { most = 5000 };
static lua_State *states[most + 1];
static int made;

static void make(int n) {
    while (n-- > 0 && made < most) {
        states[++made] = jemalloc_lua_newstate();
        luaL_openlibs(states[made]);
    }
}

static void turn(lua_State *L, int n) {
    for (int i = 1; i <= n; ++i) jemalloc_lua_set_limit(L, (size_t)i << 24);
}

static void *come_and_go(void *count) {
    lua_State *mine[10] = {NULL};
    for (long i = 0; i < (long)(size_t)count; ++i) {
        lua_State **place = &mine[i * 7 % 10];
        jemalloc_lua_close(*place);
        *place = jemalloc_lua_newstate();
    }
    for (int i = 0; i < 10; ++i) jemalloc_lua_close(mine[i]);
    return NULL;
}

static void run_threads(long count) {
    pthread_t threads[4];
    for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, come_and_go, (void *)(size_t)count);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
}

int main(void) {
    char line[1024];
    setvbuf(stdin, NULL, _IONBF, 0); /* a child reads on where its parent stopped */
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        int i = 0;
        int at = 0;
        long n = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "make %ld", &n) == 1) {
            make((int)n);
        } else if (sscanf(line, "run %d %n", &i, &at) == 1) {
            if (luaL_dostring(states[i], line + at) != 0) {
                puts(lua_tostring(states[i], -1));
                continue;
            }
        } else if (sscanf(line, "limit %d %ld", &i, &n) == 2) {
            jemalloc_lua_set_limit(states[i], (size_t)n);
        } else if (sscanf(line, "turn %d %ld", &i, &n) == 2) {
            puts("ok");
            turn(states[i], (int)n);
            continue;
        } else if (sscanf(line, "threads %ld", &n) == 1) {
            run_threads(n);
        } else if (strcmp(line, "heap") == 0) {
            jemalloc_lua_heap_create(NULL);
        } else if (sscanf(line, "close %d", &i) == 1) {
            jemalloc_lua_close(states[i]);
        } else if (sscanf(line, "reuse %n", &at) == 0 && at > 0) {
            for (i = 3; i < 1000; ++i) close(i);
            for (i = 0; i < 200; ++i) open(line + at, O_RDWR);
        } else if (sscanf(line, "take %d", &i) == 1) {
            close(i);
            make(1);
            open("/dev/null", O_RDONLY);
            puts("ok");
            fflush(stdout);
            sleep(600);
        } else if (strcmp(line, "fork") == 0) {
            const pid_t child = fork();
            if (child > 0) {
                waitpid(child, NULL, 0);
            } else {
                printf("%ld\n", (long)getpid());
                continue;
            }
        } else if (strcmp(line, "exit") == 0) {
            exit(0);
        } else if (strcmp(line, "_exit") == 0) {
            _exit(0);
        } else {
            fprintf(stderr, "host: what is '%s'?\n", line);
            return 2;
        }
        puts("ok");
    }
    return 0;
}
