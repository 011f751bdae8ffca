-- Arenas and explicit tcaches as objects that release what they own.
--
-- An object is a small cdata with a finalizer. It is made first; then one call of C creates the arena or tcache
-- and stores it in the object. No Lua object is made in between, so nothing is lost when memory runs out. What
-- must outlive the object stands in the arena's control block, in jemalloc's memory (structs.h).

local ffi = require("ffi")

local J, native = ...

local type, pairs = type, pairs
local typeof, metatype, istype = ffi.typeof, ffi.metatype, ffi.istype
local bit = require("bit")
local band, bnot, bor, lshift = bit.band, bit.bnot, bit.bor, bit.lshift

local bad_argument, bad_self, fail = native.bad_argument, native.bad_self, native.fail
local check_size, check_flags = native.check_size, native.check_flags
local memory = native.record

local c_mallocx = native.bind("mallocx", "void *(*)(int64_t, int)")
local c_tcache_create = native.bind("tcache_create", "int (*)(void *, void *)")
local c_tcache_release = native.bind("tcache_release", "void (*)(void *, void *)")
local c_arena_create = native.bind("arena_create", "int (*)(void *, void *, bool)")
local c_arena_release = native.bind("arena_release", "void (*)(void *, void *)")

local TCACHE_BITS = native.flags.TCACHE_MASK
local ARENA_BITS = lshift(-1, native.flags.ARENA_SHIFT)

-- ---- Tcaches

local tcache_type = typeof(native.structs.Tcache)
local tcache_flag = J.MALLOCX_TCACHE

local function tcache_id(fn, tcache)
    if not istype(tcache_type, tcache) then
        bad_self("tcache", "t", fn, tcache)
    elseif tcache._id < 0 then
        fail("the tcache was released")
    elseif not native.owns_tcache(tcache._id) then
        fail("the tcache is its parent's: it was made before fork()")
    end
    return tcache._id
end

local function release_tcache(tcache)
    c_tcache_release(memory, tcache)
end

local tcache_methods = {}

function tcache_methods.id(tcache)
    return tcache_id("id", tcache)
end

function tcache_methods.flags(tcache)
    return tcache_flag(tcache_id("flags", tcache))
end

function tcache_methods.flush(tcache)
    if istype(tcache_type, tcache) and tcache._id >= 0 and not native.owns_tcache(tcache._id) then
        return nil, J.EINVAL
    end
    return J.mallctl_write("tcache.flush", tcache_id("flush", tcache))
end

-- A second call does nothing.
function tcache_methods.release(tcache)
    if not istype(tcache_type, tcache) then
        bad_self("tcache", "t", "release", tcache)
    end
    release_tcache(tcache)
end

metatype(tcache_type, {
    __index = tcache_methods,
    __gc = release_tcache,
    __tostring = function(tcache)
        return tcache._id < 0 and "jemalloc.tcache: released" or ("jemalloc.tcache: %d"):format(tcache._id)
    end,
})

-- An explicit thread cache; nil, errno if jemalloc has none left.
function J.tcache()
    local tcache = tcache_type(-1)
    local err = c_tcache_create(memory, tcache)
    if err ~= 0 then
        return nil, err
    end
    return tcache
end

-- ---- Arenas

local block_type = typeof(native.structs.ArenaBlock)
local function block_hold(block)
    block.owners = block.owners + 1
end

local arena_type = typeof(native.structs.Arena:gsub("ArenaBlock", "$"), block_type)

local function block_of(fn, arena)
    if not istype(arena_type, arena) then
        bad_self("arena", "a", fn, arena)
    end
    local block = arena._block
    if block == nil then
        fail("the arena was released")
    elseif block.tcache >= 0 and not native.owns_tcache(block.tcache) then -- before fork()
        block.tcache, block.flags = -1, bor(band(block.flags, bnot(TCACHE_BITS)), native.flags.TCACHE_NONE)
    end
    return block
end

local function release_arena(arena)
    c_arena_release(memory, arena)
end

local arena_methods = {}

function arena_methods.index(arena)
    return block_of("index", arena).index
end

-- For the *allocx functions: the arena together with its tcache, or with TCACHE_NONE.
function arena_methods.flags(arena)
    return block_of("flags", arena).flags
end

function arena_methods.mallocx(arena, size, flags)
    local block = block_of("mallocx", arena)
    size = check_size("arena:mallocx", "size", size, 1)
    local own = block.flags
    if flags then -- may choose another tcache, but not another arena
        flags = band(check_flags("arena:mallocx", flags), bnot(ARENA_BITS))
        own = bor(band(flags, TCACHE_BITS) == 0 and own or band(own, bnot(TCACHE_BITS)), flags)
    end
    local ptr = c_mallocx(size, own)
    if ptr == nil then
        return nil, J.ENOMEM
    end
    return ptr
end

function arena_methods.dallocx(arena, ptr)
    J.dallocx(ptr, block_of("dallocx", arena).flags)
end

function arena_methods.buffer(arena, ctype, n, options)
    block_of("buffer", arena)
    local with = { arena = arena }
    for key, value in pairs(options or {}) do
        with[key] = value
    end
    return J.buffer(ctype, n, with)
end

for _, action in pairs({ "purge", "decay" }) do
    arena_methods[action] = function(arena)
        return J.mallctl_read(("arena.%d.%s"):format(block_of(action, arena).index, action))
    end
end

-- Bytes of this arena: allocated, mapped from the system, and resident.
function arena_methods.stats(arena)
    local path = "stats.arenas." .. block_of("stats", arena).index .. "."
    J.mallctl_write("epoch", 1)
    local small, err = J.mallctl_read(path .. "small.allocated")
    if not small then
        return nil, err
    end
    return {
        allocated = small + J.mallctl_read(path .. "large.allocated"),
        mapped = J.mallctl_read(path .. "mapped"),
        resident = J.mallctl_read(path .. "resident"),
    }
end

-- A second call does nothing.
function arena_methods.release(arena)
    if not istype(arena_type, arena) then
        bad_self("arena", "a", "release", arena)
    end
    release_arena(arena)
end

metatype(arena_type, {
    __index = arena_methods,
    __gc = release_arena,
    __tostring = function(arena)
        return arena._block == nil and "jemalloc.arena: released"
            or ("jemalloc.arena: %d"):format(arena._block.index)
    end,
})

local settings = { dirty_decay_ms = true, muzzy_decay_ms = true, retain_grow_limit = true, dss = true }

-- options: those of `settings`; tcache = false makes an arena without a tcache.
function J.arena(options)
    if options ~= nil and type(options) ~= "table" then
        bad_argument("arena", "options", "table", options)
    end
    options = options or {}
    for key in pairs(options) do
        if not settings[key] and key ~= "tcache" then
            bad_argument("arena", "options",
                "dirty_decay_ms, muzzy_decay_ms, retain_grow_limit, dss or tcache", key)
        end
    end
    local arena = arena_type()
    local err = c_arena_create(memory, arena, options.tcache ~= false)
    if err ~= 0 then
        return nil, err
    end
    local index = arena._block.index
    for key, value in pairs(options) do
        if key ~= "tcache" then
            local done
            done, err = J.mallctl_write(("arena.%d.%s"):format(index, key), value)
            if not done then
                arena:release()
                return nil, err
            end
        end
    end
    return arena
end

-- The control block of an arena that was passed to `fn`.
function native.arena_block(fn, arena)
    if not istype(arena_type, arena) then
        bad_argument(fn, "arena", "arena of J.arena{}", arena)
    end
    return block_of(fn, arena)
end

native.block_hold, native.block_type = block_hold, block_type

-- The flag functions take objects too. The flag of an arena does not include a tcache: arena:flags() does.
local arena_flag = J.MALLOCX_ARENA

function J.MALLOCX_ARENA(a)
    if istype(arena_type, a) then
        a = block_of("MALLOCX_ARENA", a).index
    end
    return arena_flag(a)
end

function J.MALLOCX_TCACHE(tc)
    if istype(tcache_type, tc) then
        return tc:flags()
    end
    return tcache_flag(tc)
end
