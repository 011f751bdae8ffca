/*
 * jemalloc_lua.h - Lua states whose memory is a jemalloc heap of their own.
 *
 * Where a host calls luaL_newstate(), it calls jemalloc_lua_newstate():
 *
 *     lua_State *L = jemalloc_lua_newstate();
 *     ...
 *     jemalloc_lua_close(L);
 *
 * Every block of that state then comes from one heap, with its own arena, limit and statistics, and goes
 * back to the system when the state is closed. The header compiles as C99 and as C++, with the lua.h of
 * LuaJIT or of PUC Lua 5.1 to 5.4. The library brings no Lua of its own: the host links one.
 *
 * Threads: a state and its heap are used by one thread at a time, whichever that is, as Lua itself asks.
 * The functions that take no state or heap may be called from any thread at any time. States may be made
 * before fork() and used after it in both processes.
 *
 * dlclose() leaves the library in the process, since jemalloc has handlers of threads' exits in it. A plugin
 * that links the static one, and may be unloaded, needs the linker's -z nodelete for that.
 *
 * Errors: a function that returns int returns 0 or an errno value; one that returns a pointer returns NULL
 * and sets errno. Nothing throws and nothing aborts, except a heap with front:checked or
 * harden:true that found damage.
 */
#ifndef JEMALLOC_LUA_H
#define JEMALLOC_LUA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <lua.h>

#if defined(__GNUC__)
#define JEMALLOC_LUA_API __attribute__((visibility("default")))
#else
#define JEMALLOC_LUA_API
#endif

#define JEMALLOC_LUA_VERSION_MAJOR 1
#define JEMALLOC_LUA_VERSION_MINOR 1
#define JEMALLOC_LUA_VERSION_PATCH 0

/* ---- Options ------------------------------------------------------------------------------------- */

/* How a heap cuts its memory into blocks. */
enum jemalloc_lua_front {
    /* Small blocks are carved from slabs that the heap gets from jemalloc; large ones are jemalloc
     * regions. The fastest and smallest. */
    JEMALLOC_LUA_FRONT_SLAB = 0,
    /* Every block is a jemalloc region. Choose it when jemalloc's own tools must see each block: heap
     * profiles (jeprof), sallocx() on any pointer. */
    JEMALLOC_LUA_FRONT_DIRECT = 1,
    /* direct, and each call is verified: sizes, double free, use after free, writes past the end. The
     * process aborts with a report that names the block. Slow; for debugging. */
    JEMALLOC_LUA_FRONT_CHECKED = 2
};

/* Which jemalloc arena a heap's memory comes from: one of these, or an arena's index (0 and up). */
enum jemalloc_lua_arena {
    /* Begin on a shared arena; take an arena of its own when the footprint passes arena_threshold. */
    JEMALLOC_LUA_ARENA_AUTO = -1,
    /* An arena of its own from the start: some 150 KB of resident memory and 100 us each. */
    JEMALLOC_LUA_ARENA_OWN = -2,
    /* One of a small set of arenas of this library's (one per CPU), in turn. */
    JEMALLOC_LUA_ARENA_SHARED = -3,
    /* The arena that jemalloc gives the calling thread, as for the thread's own malloc. */
    JEMALLOC_LUA_ARENA_THREAD = -4
};

/* Which of jemalloc's thread caches front:direct uses (the slab front end needs none). */
enum jemalloc_lua_tcache {
    JEMALLOC_LUA_TCACHE_OWN = 0,   /* an explicit tcache of the heap's own */
    JEMALLOC_LUA_TCACHE_NONE = 1,  /* no cache: the least memory, two to three times slower */
    JEMALLOC_LUA_TCACHE_THREAD = 2 /* the thread's automatic tcache; only with arena:thread */
};

/* What the kernel is told (madvise) about huge pages for a slab heap's blocks from 2 MiB up. */
enum jemalloc_lua_thp {
    JEMALLOC_LUA_THP_DEFAULT = 0, /* nothing: as the system is configured */
    JEMALLOC_LUA_THP_ALWAYS = 1,  /* to use them, for 16 blocks at a time */
    JEMALLOC_LUA_THP_NEVER = 2    /* not to use them */
};

#define JEMALLOC_LUA_DECAY_DEFAULT INTPTR_MIN

/*
 * Options of a heap. jemalloc_lua_options_init() sets the defaults; then change what matters. Later
 * versions add fields at the end and tell by `size` which ones the caller knows.
 */
typedef struct jemalloc_lua_options {
    /* sizeof(jemalloc_lua_options) as the caller was compiled; jemalloc_lua_options_init() sets it. */
    size_t size;

    /* enum jemalloc_lua_front. Default: slab. */
    int front;

    /* enum jemalloc_lua_arena, or the index of an arena of the jemalloc that this library runs on, which
     * must outlive the heap; not that of a heap's own. Default: auto. */
    int arena;

    /* enum jemalloc_lua_tcache. Default: own. */
    int tcache;

    /* arena:auto: footprint in bytes above which a heap takes an arena of its own. Default: 4 MiB; direct and
     * checked heaps take one at 1 MiB at the latest. */
    size_t arena_threshold;

    /* Hard limit of the footprint in bytes; 0 means none. A request that would pass it is refused, which
     * Lua turns into the error "not enough memory" that a script can catch. Default: 0. */
    size_t limit;

    /* Footprint in bytes above which the garbage collector is made to work harder: it starts at its next
     * check and runs faster until the footprint falls below. 0 means 80 % of `limit` (none without a
     * limit). Default: 0. */
    size_t soft_limit;

    /* Slab: how much memory, in percent of what is live, a heap keeps for the next allocations after a
     * collection; the rest returns to the system. Higher is faster, lower is smaller. Default: 100. */
    unsigned retain;

    /* Slab: bytes of the block that holds the heap's header, the state and its first objects. 16K to 1M,
     * rounded up to whole slabs. What is not used costs address space only. Default: 128 KiB. */
    size_t nursery;

    /* Slab: bytes of one slab; a power of two from 16K to 1M. Default: 32 KiB. */
    size_t slab;

    /* Slab: the largest block in bytes that is carved from a slab; 528 to 1K, a multiple of 16.
     * Default: 1 KiB. */
    size_t small_max;

    /* Slab: blocks of at least this many bytes grow by moving pages instead of copying. Default:
     * 256 KiB. */
    size_t huge_min;

    /* Milliseconds after which jemalloc returns unused dirty / muzzy pages of arenas of the heap's own;
     * -1 never, 0 at once. Default: JEMALLOC_LUA_DECAY_DEFAULT, as jemalloc is configured. See
     * "arena.<i>.dirty_decay_ms" in jemalloc(3). */
    intptr_t dirty_decay_ms;
    intptr_t muzzy_decay_ms;

    /* enum jemalloc_lua_thp. Default: default. */
    int thp;

    /* Non-zero: zero all memory of the state when it is closed and each block when it is freed, so that
     * no other tenant of the process ever sees its contents. Default: 0. */
    int scrub;

    /* Slab: non-zero: each free and realloc is held against what the heap knows of the block, and links and
     * headers are guarded. A double free, a free with another class's size or of what is no block, a write
     * to the start of a freed block or over a slab's header ends the process (abort) with a line on stderr
     * that names the block. For states that run what may be wrong or hostile. Default: 0. */
    int harden;
} jemalloc_lua_options;

/*
 * Sets every field to its built-in default. JEMALLOC_LUA_CONF is not looked at. From C and C++ it is the
 * macro below; the function, for those who call it by name (FFIs), sets the fields of version 1.0.
 */
JEMALLOC_LUA_API void jemalloc_lua_options_init(jemalloc_lua_options *options);

/* The same for a struct of `size` bytes, as the caller's header has it: a later library writes no more. */
JEMALLOC_LUA_API void jemalloc_lua_options_init_size(jemalloc_lua_options *options, size_t size);

#define jemalloc_lua_options_init(options) \
    jemalloc_lua_options_init_size((options), sizeof(jemalloc_lua_options))

/*
 * Reads "key:value,key:value" into options that jemalloc_lua_options_init() has set up. Sizes take the
 * units K, M and G (powers of 1024). Returns 0; or EINVAL, and then the options are unchanged and `err`
 * (errlen bytes, may be NULL) holds a message that names the key and what it takes.
 */
JEMALLOC_LUA_API int jemalloc_lua_options_parse(jemalloc_lua_options *options, const char *conf, char *err,
                                                size_t errlen);

/*
 * Writes options as a string that jemalloc_lua_options_parse() reads; only those that differ from the
 * defaults, or all of them when `all` is non-zero. Like snprintf(): returns the length of the whole text,
 * writes at most len bytes with the final NUL.
 */
JEMALLOC_LUA_API int jemalloc_lua_options_format(const jemalloc_lua_options *options, int all, char *buf,
                                                 size_t len);

/* Writes a table of every option: key, what it takes, default, what it does. Like snprintf(). */
JEMALLOC_LUA_API int jemalloc_lua_options_help(char *buf, size_t len);

/* ---- States -------------------------------------------------------------------------------------- */

/*
 * A new state, as by luaL_newstate(): no libraries open, a panic function set. Options: the defaults and
 * the environment variable JEMALLOC_LUA_CONF; a bad pair in it is reported once on stderr and the rest is
 * used. NULL and errno: ENOMEM, ENOTSUP (this LuaJIT takes no allocator: it was built without GC64), EINVAL
 * (an arena:INDEX in the variable that does not exist, or is another heap's own).
 */
JEMALLOC_LUA_API lua_State *jemalloc_lua_newstate(void);

/*
 * A new state with exactly these options: of JEMALLOC_LUA_CONF only the settings of the process apply
 * (verbose, stats_file and the like). Without options: as jemalloc_lua_newstate(). NULL and errno: EINVAL (an
 * option out of range, an arena that does not exist or is another heap's own), ENOMEM, ENOTSUP.
 */
JEMALLOC_LUA_API lua_State *jemalloc_lua_newstate_opts(const jemalloc_lua_options *options);

/*
 * Closes a state, as lua_close() does: finalizers run, then all its memory is released. Faster than
 * lua_close(), because single blocks need not be freed, nor the objects of a large state be visited. Plain
 * lua_close() releases everything as well. A state that is not ours is passed to lua_close(). NULL is
 * ignored.
 */
JEMALLOC_LUA_API void jemalloc_lua_close(lua_State *L);

/*
 * Why a heap runs with less than was asked for; bits of jemalloc_lua_stats.fallbacks. An arena other than
 * this library's (arena:thread, an index) is not given either where the kernel hands out addresses that
 * LuaJIT can't use, above 2^47, as on AArch64.
 */
#define JEMALLOC_LUA_FALLBACK_ARENA 1u  /* a shared arena: jemalloc has no more (about 4,090) */
#define JEMALLOC_LUA_FALLBACK_TCACHE 2u /* no tcache of its own: jemalloc has no more, or no memory */

/*
 * What a state's heap holds; a field is in bytes unless its comment says what it counts. The caller sets `size`
 * to sizeof(jemalloc_lua_stats). Later versions add fields at the end; fields that an older library does not
 * know are set to zero.
 *
 * With a limit and an arena of its own, the footprint of a heap with front:direct or front:checked also has the
 * gaps between its blocks.
 */
typedef struct jemalloc_lua_stats {
    size_t size;
    size_t live;         /* in use, as collectgarbage('count') tells */
    size_t footprint;    /* held from jemalloc, buffers of the Lua module included; never below live */
    size_t peak;         /* highest footprint so far */
    size_t limit;        /* hard limit of the footprint (0: none) */
    size_t soft_limit;   /* footprint above which the collector is pushed (0: none) */
    size_t nursery_used; /* used of the nursery (0: no nursery) */
    size_t slabs;        /* slabs held */
    size_t empty_slabs;  /* slabs without a block, kept for reuse */
    size_t large_blocks; /* blocks that are extents of their own */
    size_t large_bytes;  /* held by those blocks */
    size_t cached_bytes; /* freed blocks kept for reuse, outside of slabs */
    uint64_t refusals;   /* requests refused, by the limit or for want of memory */
    uint64_t gc_pushes;  /* times that the soft limit pushed the collector */
    uint64_t purged;     /* returned to the system by retention and trim */
    unsigned arena;      /* arena that the next large block comes from */
    unsigned front;      /* enum jemalloc_lua_front */
    unsigned fallbacks;  /* what could not be had: JEMALLOC_LUA_FALLBACK_* bits */
    uint64_t requests;   /* blocks asked for, those that stand ready included */
} jemalloc_lua_stats;

/* Fills stats. EINVAL for a state that is not ours, NULL, or a `size` smaller than the first version's. */
JEMALLOC_LUA_API int jemalloc_lua_get_stats(lua_State *L, jemalloc_lua_stats *stats);

/* Writes stats as a table for people, or as a JSON object when `json` is non-zero. Like snprintf(). */
JEMALLOC_LUA_API int jemalloc_lua_stats_format(const jemalloc_lua_stats *stats, int json, char *buf,
                                               size_t len);

/*
 * Sets the hard limit of a live state, in bytes; 0 removes it. The soft limit follows at 80 %, unless one
 * was given in the options. A limit below the present footprint is accepted: the heap then makes do with the
 * memory that it has until enough has been freed. EINVAL for a state that is not ours.
 */
JEMALLOC_LUA_API int jemalloc_lua_set_limit(lua_State *L, size_t bytes);

/*
 * Gives unused memory back to the operating system now, and returns how many bytes of the heap's that
 * were. It does not collect garbage: call lua_gc(L, LUA_GCCOLLECT, 0) first where that is wanted. 0 for a
 * state that is not ours.
 */
JEMALLOC_LUA_API size_t jemalloc_lua_trim(lua_State *L);

/* The index of the arena that the state's next large block comes from. EINVAL for a state not ours. */
JEMALLOC_LUA_API int jemalloc_lua_get_arena(lua_State *L, unsigned *index);

/* ---- Heaps, for hosts that call lua_newstate() themselves (LuaJIT, PUC Lua 5.1 to 5.4) ------------- */

typedef struct jemalloc_lua_heap jemalloc_lua_heap;

/*
 * A heap without a state: lua_newstate(jemalloc_lua_heap_alloc(heap), heap). The caller owns it, and
 * destroys it after lua_close(). One heap serves one state. options may be NULL: defaults and
 * JEMALLOC_LUA_CONF. NULL and errno: EINVAL, ENOMEM. The soft limit has no effect on such a state, as the
 * heap does not know it; the hard limit holds.
 */
JEMALLOC_LUA_API jemalloc_lua_heap *jemalloc_lua_heap_create(const jemalloc_lua_options *options);

/* Releases the heap and every block in it; only blocks that are jemalloc regions of their own (all of
 * front:direct's, the large ones of front:slab) and were never freed stay behind on an arena that other heaps
 * share, so lua_close() comes first. NULL is ignored. */
JEMALLOC_LUA_API void jemalloc_lua_heap_destroy(jemalloc_lua_heap *heap);

/* The allocator function of this heap; its `ud` is the heap. */
JEMALLOC_LUA_API lua_Alloc jemalloc_lua_heap_alloc(jemalloc_lua_heap *heap);

#ifdef __cplusplus
}
#endif

#endif
