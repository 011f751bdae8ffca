/*
 * A host that makes states, forks, and goes on in both processes, as nginx does with its workers; and one
 * whose threads make their first states while it forks. tools/soak forks among threads that go on.
 *
 *     fork_host CONF    exits 0 if all went right in every process
 */
#include <jemalloc_lua.h>

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { state_count = 8, process_count = 100, thread_count = 3 };

static jemalloc_lua_options options;

static void fail(const char *what) {
    fprintf(stderr, "fork_host: process %ld: %s\n", (long)getpid(), what);
    _exit(1);
}

static void run(lua_State *L, const char *text) {
    if (luaL_loadstring(L, text) != 0 || lua_pcall(L, 0, 0, 0) != 0) fail(lua_tostring(L, -1));
}

static lua_State *open_state(void) {
    lua_State *L = jemalloc_lua_newstate_opts(&options);
    if (L == NULL) fail("no state");
    luaL_openlibs(L);
    return L;
}

static const char fill[] = "kept = {} for i = 1, 20000 do kept[i] = {i, tostring(i)} end";
static const char check[] = "for i = 1, 20000 do assert(kept[i][1] == i and kept[i][2] == tostring(i)) end";

/* Uses the states it inherited, makes some of its own, closes all. */
static void go_on(lua_State **states) {
    int i;
    for (i = 0; i < state_count; ++i) {
        run(states[i], check);
        run(states[i], "for i = 1, 20000, 3 do kept[i] = {i, tostring(i)} end collectgarbage()");
        run(states[i], check);
    }
    for (i = 0; i < state_count; ++i) {
        lua_State *L = open_state();
        run(L, fill);
        jemalloc_lua_trim(states[i]);
        if (i % 2 == 0) {
            lua_close(states[i]);
        } else {
            jemalloc_lua_close(states[i]);
        }
        run(L, check);
        jemalloc_lua_close(L);
    }
}

static void await(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) fail("no child to wait for");
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "fork_host: a child ended by signal %d\n", WTERMSIG(status));
        exit(1);
    }
    if (WEXITSTATUS(status) != 0) fail("a child failed");
}

static pid_t start(void) {
    const pid_t child = fork();
    if (child < 0) fail("no fork");
    if (child == 0) alarm(60); /* a lock left held by fork() must not hang the test */
    return child;
}

static void test_states_before_fork(void) {
    lua_State *states[state_count];
    pid_t children[2];
    int i;
    for (i = 0; i < state_count; ++i) {
        states[i] = open_state();
        run(states[i], fill);
    }
    for (i = 0; i < 2; ++i) {
        children[i] = start();
        if (children[i] == 0) {
            go_on(states);
            _exit(0);
        }
    }
    go_on(states);
    for (i = 0; i < 2; ++i) await(children[i]);
}

/*
 * The compiler is off: LuaJIT registers each trace with libgcc's unwinder, whose lock a child inherits as
 * some other thread held it, and waits for it for ever (LuaJIT on its own allocator does so too).
 */
static lua_State *open_interpreter(void) {
    lua_State *L = open_state();
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    return L;
}

static void *make_states(void *unused) {
    for (;;) {
        lua_State *L = open_interpreter();
        run(L, "local t = {} for i = 1, 2000 do t[i] = {i} end");
        jemalloc_lua_trim(L);
        jemalloc_lua_close(L);
    }
    return unused;
}

/*
 * A process forks while its threads make their first states, and with them all that is made but once. It can
 * be tried only once in a process, so many are started, each of which forks a little later than the last.
 */
static void test_fork_among_first_states(void) {
    int i;
    for (i = 0; i < process_count; ++i) {
        const pid_t process = start();
        if (process == 0) {
            pthread_t threads[thread_count];
            pid_t child;
            int k;
            for (k = 0; k < thread_count; ++k) {
                if (pthread_create(&threads[k], NULL, make_states, NULL) != 0) fail("no thread");
            }
            usleep((useconds_t)(i * 20));
            child = start();
            if (child == 0) {
                jemalloc_lua_close(open_interpreter());
                _exit(0);
            }
            await(child);
            _exit(0);
        }
        await(process);
    }
}

int main(int argc, char **argv) {
    char message[512];
    if (argc != 2) {
        fprintf(stderr, "usage: fork_host CONF\n");
        return 2;
    }
    jemalloc_lua_options_init(&options);
    if (jemalloc_lua_options_parse(&options, argv[1], message, sizeof message) != 0) {
        fprintf(stderr, "fork_host: %s\n", message);
        return 2;
    }
    test_fork_among_first_states();
    test_states_before_fork();
    printf("%s: right in every process\n", argv[1]);
    return 0;
}
