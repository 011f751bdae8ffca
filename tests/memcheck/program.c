/*
 * A program with a mistake, for Valgrind's memcheck to find in blocks of a slab heap.
 *
 *     memcheck_program clean|read_freed|write_freed|overrun|read_moved
 */
#include <jemalloc_lua.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

static jemalloc_lua_heap *heap;
static volatile char sink;

static void *request(void *ptr, size_t old_size, size_t new_size) {
    return jemalloc_lua_heap_alloc(heap)(heap, ptr, old_size, new_size);
}

/* Sizes of each kind of block: in slabs, kept regions, huge ones. */
static void use_all_right(void) {
    static const size_t sizes[] = {1, 16, 48, 100, 1000, 1024, 5000, 40000, 300000, 2000000};
    char *blocks[200];
    size_t i, round;
    for (round = 0; round < 5; ++round) {
        for (i = 0; i < 200; ++i) {
            const size_t size = sizes[(i + round) % 10];
            blocks[i] = request(NULL, 0, size);
            memset(blocks[i], (int)i, size);
        }
        for (i = 0; i < 200; ++i) {
            const size_t size = sizes[(i + round) % 10];
            blocks[i] = request(blocks[i], size, size + size / 2 + 1);
            if (blocks[i][size - 1] != (char)i) printf("wrong contents\n");
            request(blocks[i], size + size / 2 + 1, 0);
        }
    }
}

static void run_a_state(void) {
    static const char program[] =
        "local kept = {} for i = 1, 20000 do kept[i % 500] = {i, tostring(i), function() return i end} end\n"
        "collectgarbage() local t = {} for i = 1, 50000 do t[i] = i end t = nil collectgarbage()";
    lua_State *L = jemalloc_lua_newstate();
    luaL_openlibs(L);
    if (luaL_dostring(L, "jit.off()") || luaL_dostring(L, program)) printf("%s\n", lua_tostring(L, -1));
    jemalloc_lua_trim(L);
    jemalloc_lua_close(L);
}

int main(int argc, char **argv) {
    const char *mode = argc == 2 ? argv[1] : "";
    char *block, *next;
    heap = jemalloc_lua_heap_create(NULL);
    block = request(NULL, 0, 48);
    next = request(NULL, 0, 48);
    memset(block, 1, 48);
    memset(next, 1, 48);
    if (strcmp(mode, "clean") == 0) {
        use_all_right();
        run_a_state();
        jemalloc_lua_heap_destroy(heap);
        heap = jemalloc_lua_heap_create(NULL);
        use_all_right();
    } else if (strcmp(mode, "read_freed") == 0) {
        request(block, 48, 0);
        sink = block[8];
    } else if (strcmp(mode, "write_freed") == 0) {
        request(block, 48, 0);
        block[47] = 1;
    } else if (strcmp(mode, "overrun") == 0) {
        block[48] = 1;
    } else if (strcmp(mode, "read_moved") == 0) {
        request(block, 48, 480);
        sink = block[0];
    } else {
        fprintf(stderr, "usage: memcheck_program clean|read_freed|write_freed|overrun|read_moved\n");
        return 2;
    }
    jemalloc_lua_heap_destroy(heap);
    return 0;
}
