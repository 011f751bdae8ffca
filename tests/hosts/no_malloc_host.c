/*
 * A host whose malloc() has no memory left: the library takes none of it, so nothing fails.
 */
#include <jemalloc_lua.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void *__libc_malloc(size_t size);

static int refuse = 0;

/* For all in the process. */
__attribute__((visibility("default"))) void *malloc(size_t size) {
    return refuse ? NULL : __libc_malloc(size);
}

int main(void) {
    jemalloc_lua_options options;
    jemalloc_lua_stats stats;
    char text[8192];
    const char *wrong = NULL;
    lua_State *L;
    stats.size = sizeof stats;
    refuse = 1;
    jemalloc_lua_options_init(&options);
    L = jemalloc_lua_newstate(); /* JEMALLOC_LUA_CONF has a key that there is not */
    if (L == NULL) wrong = "newstate";
    if (jemalloc_lua_options_parse(&options, "nosuch:1", text, sizeof text) == 0) wrong = "parse";
    if (strstr(text, "arena_threshold") == NULL) wrong = "the message";
    options.limit = PTRDIFF_MAX;
    if (jemalloc_lua_options_format(&options, 1, text, sizeof text) <= 0) wrong = "format";
    if (jemalloc_lua_options_help(text, sizeof text) <= 0) wrong = "help";
    if (jemalloc_lua_get_stats(L, &stats) != 0) wrong = "stats";
    stats.peak = PTRDIFF_MAX;
    if (jemalloc_lua_stats_format(&stats, 0, text, sizeof text) <= 0) wrong = "stats_format";
    if (strstr(text, "9,223,372,036,854,775,807 B") == NULL) wrong = "what stats_format says";
    jemalloc_lua_close(L);
    refuse = 0;
    if (wrong != NULL) fprintf(stderr, "no_malloc_host: %s\n", wrong);
    return wrong != NULL;
}
