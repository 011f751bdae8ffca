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
 * dlclose() leaves the library in the process, because jemalloc has handlers in it that run when threads
 * exit. A plugin that links the static library, and may be unloaded, is to be linked with -z nodelete.
 *
 * Errors: a function that returns int returns 0 or an errno value; one that returns a pointer returns NULL
 * and sets errno. No function throws. The process is aborted only where damage is found, with a line on
 * stderr: with front:checked and harden:true by what these look for, and in any heap where a large block or a
 * resize is not the heap's.
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
    /* Small blocks are cut from slabs that the heap takes from jemalloc; each large block is a jemalloc
     * allocation of its own. The fastest and smallest. */
    JEMALLOC_LUA_FRONT_SLAB = 0,
    /* Every block is a jemalloc allocation of its own. Choose it when jemalloc's tools must see each block:
     * heap profiles (jeprof), sallocx() on any pointer. */
    JEMALLOC_LUA_FRONT_DIRECT = 1,
    /* As direct, and each call is verified: sizes, double free, use after free, writes past the end. A wrong
     * call aborts the process with a report that names the block. Slow; for debugging. */
    JEMALLOC_LUA_FRONT_CHECKED = 2
};

/* Which jemalloc arena a heap's memory comes from: one of these, or an arena's index (0 and up). */
enum jemalloc_lua_arena {
    /* Begin on a shared arena; take an arena of its own when the footprint passes arena_threshold. */
    JEMALLOC_LUA_ARENA_AUTO = -1,
    /* An arena of its own from the start: some 100 KB of resident memory and 100 us each. */
    JEMALLOC_LUA_ARENA_OWN = -2,
    /* One of a small set of arenas of this library's (one per CPU), in turn. */
    JEMALLOC_LUA_ARENA_SHARED = -3,
    /* The arena that jemalloc gives the calling thread, as for the thread's own malloc. */
    JEMALLOC_LUA_ARENA_THREAD = -4
};

/* Which of jemalloc's thread caches front:direct uses (the slab front needs none). */
enum jemalloc_lua_tcache {
    JEMALLOC_LUA_TCACHE_OWN = 0,   /* an explicit tcache of the heap's own */
    JEMALLOC_LUA_TCACHE_NONE = 1,  /* no cache: the least memory, two to three times slower */
    JEMALLOC_LUA_TCACHE_THREAD = 2 /* the thread's automatic tcache; only with arena:thread */
};

/* What the kernel is told (madvise) about huge pages for a slab heap's blocks from 2 MiB up. */
enum jemalloc_lua_thp {
    JEMALLOC_LUA_THP_DEFAULT = 0, /* nothing: as the system is configured */
    JEMALLOC_LUA_THP_ALWAYS = 1,  /* use huge pages */
    JEMALLOC_LUA_THP_NEVER = 2    /* use none */
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

    /* How much idle memory a heap keeps for the next allocations, in percent of what is live; 512 KiB
     * at least. The rest is released, and purged in steps of 4 MiB: up to the highest footprint so far at
     * once, then 32 MiB for each second of processor time and 4 MiB for each second; with 0 always at once.
     * Higher is faster, lower is smaller. Default: 100. */
    unsigned retain;

    /* Slab: bytes of the block that holds the heap's header, the state and its first objects. 16K to 1M,
     * rounded up to whole slabs. Untouched pages cost address space only. Default: 128 KiB. */
    size_t nursery;

    /* Slab: bytes of one slab; a power of two from 16K to 1M. Default: 32 KiB. */
    size_t slab;

    /* Slab: the largest block in bytes that is cut from a slab; 528 to 1K, a multiple of 16.
     * Default: 1 KiB. */
    size_t small_max;

    /* Slab: blocks of at least this many bytes grow by moving pages instead of copying. Default:
     * 256 KiB. */
    size_t huge_min;

    /* Milliseconds after which jemalloc purges dirty / muzzy pages of arenas of the heap's own;
     * -1 never, 0 at once. Default: JEMALLOC_LUA_DECAY_DEFAULT, as jemalloc is configured. See
     * "arena.<i>.dirty_decay_ms" in jemalloc(3). */
    intptr_t dirty_decay_ms;
    intptr_t muzzy_decay_ms;

    /* enum jemalloc_lua_thp. Default: default. */
    int thp;

    /* Non-zero: each block is zeroed when it is freed, and all memory of the state when it is closed, so that
     * no later owner of the memory sees its contents. Default: 0. */
    int scrub;

    /* front:slab alone: non-zero: the heap verifies each block that is freed or resized, and guards its links
     * and headers. These end the process (abort), with a line on stderr that names the block: a double free,
     * a free with the size of another class, a free of an address that is no block, a write to the start of a
     * freed block, a write over the header of a slab. For states whose code may be wrong or hostile.
     * Default: 0. */
    int harden;
} jemalloc_lua_options;

/*
 * Sets every field to its built-in default, whatever JEMALLOC_LUA_CONF says. C and C++ use the macro below.
 * The function is for callers that look it up by name, such as FFIs; it sets the fields of version 1.0.
 */
JEMALLOC_LUA_API void jemalloc_lua_options_init(jemalloc_lua_options *options);

/* The same for a struct of `size` bytes, as in the caller's header. A later library writes no more than that.
 */
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
 * Writes options as a string that jemalloc_lua_options_parse() reads: those that differ from the defaults,
 * or all of them when `all` is non-zero. Like snprintf(), it returns the length of the whole text, and writes
 * at most len bytes with the final NUL.
 */
JEMALLOC_LUA_API int jemalloc_lua_options_format(const jemalloc_lua_options *options, int all, char *buf,
                                                 size_t len);

/* Writes a table of every option: key, what it takes, default, what it does. Like snprintf(). */
JEMALLOC_LUA_API int jemalloc_lua_options_help(char *buf, size_t len);

/* ---- States -------------------------------------------------------------------------------------- */

/*
 * A new state, as by luaL_newstate(): no libraries open, a panic function set. Options: the defaults and
 * the environment variable JEMALLOC_LUA_CONF. A wrong pair in it is reported once on stderr, and the other
 * pairs apply. NULL and errno: ENOMEM, ENOTSUP (this LuaJIT was built without GC64, and takes no allocator),
 * EINVAL (an arena:INDEX in the variable that does not exist, or is another heap's own).
 */
JEMALLOC_LUA_API lua_State *jemalloc_lua_newstate(void);

/*
 * A new state with exactly these options: of JEMALLOC_LUA_CONF only the settings of the process apply
 * (verbose, stats_file and the like). Without options: as jemalloc_lua_newstate(). NULL and errno: EINVAL (an
 * option out of range, an arena that does not exist or is another heap's own), ENOMEM, ENOTSUP.
 */
JEMALLOC_LUA_API lua_State *jemalloc_lua_newstate_opts(const jemalloc_lua_options *options);

/*
 * Closes a state, as lua_close() does: finalizers run, then all its memory is released. It is faster than
 * lua_close(), because after the last finalizer objects are not visited, and blocks not freed one by one.
 * Plain lua_close() releases everything as well. A state of another allocator is passed to lua_close(). NULL
 * is ignored.
 */
JEMALLOC_LUA_API void jemalloc_lua_close(lua_State *L);

/*
 * Why a heap runs with less than its options say; bits of jemalloc_lua_stats.fallbacks. A heap does not get
 * an arena that this library did not make (arena:thread, an index) if the kernel hands out addresses above
 * 2^47, as on AArch64, because LuaJIT can't use them.
 */
#define JEMALLOC_LUA_FALLBACK_ARENA \
    1u /* a shared arena: jemalloc has no more (about 4,090), or too high addresses */
#define JEMALLOC_LUA_FALLBACK_TCACHE 2u /* no tcache of its own: jemalloc has no more, or no memory */

/* How pages of this library's arenas return to the system. It holds for the process. */
enum jemalloc_lua_way_back {
    JEMALLOC_LUA_WAY_BACK_PURGE = 0, /* madvise() */
    JEMALLOC_LUA_WAY_BACK_REMAP = 1, /* mmap() over them: madvise() is refused, or memory locked */
    JEMALLOC_LUA_WAY_BACK_NONE = 2   /* the system has refused both */
};

/*
 * What a state's heap holds; a field is in bytes unless its comment says what it counts. The caller sets
 * `size` to sizeof(jemalloc_lua_stats). Later versions add fields at the end; fields that an older library
 * does not know are set to zero.
 *
 * With a limit and an arena of its own, the footprint of a heap with front:direct or front:checked also has
 * the gaps between its blocks.
 */
typedef struct jemalloc_lua_stats {
    size_t size;
    size_t live;         /* in use: 1,024 times what collectgarbage('count') tells */
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
    uint64_t refusals;   /* requests refused, by the limit or because memory ran out */
    uint64_t gc_pushes;  /* times that the collector was started, above the soft limit or at a refusal */
    uint64_t purged;     /* returned to the system by retention and trim */
    unsigned arena;      /* arena that the next large block comes from */
    unsigned front;      /* enum jemalloc_lua_front */
    unsigned fallbacks;  /* what the heap did not get: JEMALLOC_LUA_FALLBACK_* bits */
    uint64_t requests;   /* blocks asked for, and freed ones that stand ready for the next requests */
    unsigned way_back;   /* how unused pages return to the system: enum jemalloc_lua_way_back */
} jemalloc_lua_stats;

/* Fills stats. EINVAL for a state of another allocator, NULL, or a `size` smaller than the first version's.
 */
JEMALLOC_LUA_API int jemalloc_lua_get_stats(lua_State *L, jemalloc_lua_stats *stats);

/* Writes stats as a table for people, or as a JSON object when `json` is non-zero. Like snprintf(). */
JEMALLOC_LUA_API int jemalloc_lua_stats_format(const jemalloc_lua_stats *stats, int json, char *buf,
                                               size_t len);

/*
 * Sets the hard limit of a live state, in bytes; 0 removes it. The soft limit follows at 80 %, unless the
 * options set one. A limit below the present footprint is accepted: the heap then takes no more memory until
 * enough has been freed. EINVAL for a state of another allocator.
 */
JEMALLOC_LUA_API int jemalloc_lua_set_limit(lua_State *L, size_t bytes);

/*
 * Releases idle memory and purges it, so that it returns to the operating system now. Returns the bytes that
 * went to the system. It does not collect garbage: call lua_gc(L, LUA_GCCOLLECT, 0) first for that. 0 for a
 * state of another allocator.
 */
JEMALLOC_LUA_API size_t jemalloc_lua_trim(lua_State *L);

/* The index of the arena that the state's next large block comes from. EINVAL for a state of another
 * allocator. */
JEMALLOC_LUA_API int jemalloc_lua_get_arena(lua_State *L, unsigned *index);

/* ---- Heaps, for hosts that call lua_newstate() themselves (LuaJIT, PUC Lua 5.1 to 5.4) ------------- */

typedef struct jemalloc_lua_heap jemalloc_lua_heap;

/*
 * A heap without a state: lua_newstate(jemalloc_lua_heap_alloc(heap), heap). The caller owns the heap, and
 * destroys it after lua_close(). One heap serves one state. options may be NULL: defaults and
 * JEMALLOC_LUA_CONF. NULL and errno: EINVAL, ENOMEM. The hard limit holds. The soft limit has no effect,
 * because the heap does not know its state.
 */
JEMALLOC_LUA_API jemalloc_lua_heap *jemalloc_lua_heap_create(const jemalloc_lua_options *options);

/* Releases the heap and every block in it. Call lua_close() first: on an arena that other heaps share, blocks
 * of front:direct stay unless they were freed. NULL is ignored. */
JEMALLOC_LUA_API void jemalloc_lua_heap_destroy(jemalloc_lua_heap *heap);

/* The allocator function of this heap; its `ud` is the heap. */
JEMALLOC_LUA_API lua_Alloc jemalloc_lua_heap_alloc(jemalloc_lua_heap *heap);

#ifdef __cplusplus
}
#endif

#endif
