/*
 * record.h - records what a Lua state asks of its allocator, for tools/replay and tools/tune.
 *
 *     jemalloc_lua_record_start(L, "program.rec");
 *     ... run the program ...
 *     jemalloc_lua_record_stop(L);
 *
 * While it runs, L's allocator is a wrapper that calls the one it had. Blocks that L already had are left
 * out. The file is described in trace.h.
 */
#ifndef JEMALLOC_LUA_RECORD_H
#define JEMALLOC_LUA_RECORD_H

#ifdef __cplusplus
extern "C" {
#endif

#include <lua.h>

/* Begins to write `path` anew. 0, or an errno value: the file can't be made, EALREADY, ENOMEM. */
int jemalloc_lua_record_start(lua_State *L, const char *path);

/* Ends the recording; to be called before the state is closed. 0, or an errno value: EINVAL (L is not being
 * recorded), or what kept the file from being written whole (ENOSPC, EIO). */
int jemalloc_lua_record_stop(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
