-- How arguments are checked, and C functions bound. jemalloc checks nothing, so each argument is checked before
-- jemalloc sees it.

local ffi = require("ffi")
local bit = require("bit")

local J, native = ...

local type, tonumber, tostring, floor = type, tonumber, tostring, math.floor
local cast, istype, typeof, sizeof = ffi.cast, ffi.istype, ffi.typeof, ffi.sizeof
local tobit, rshift, band, bor = bit.tobit, bit.rshift, bit.band, bit.bor

local void_ptr = typeof("void *")
local functions, fail = native.functions, native.fail
local MAX_SIZE = 2 ^ 53 -- up to which a Lua number holds every integer

-- A C function of the bound jemalloc; nil if that jemalloc lacks it.
local function bind(name, ctype)
    local address = functions[name]
    return address and cast(ctype, address)
end

local function bad_argument(fn, name, expected, value)
    local got = value
    if type(value) == "string" then
        got = ("'%s'"):format(value)
    elseif type(value) ~= "number" and type(value) ~= "nil" then
        got = type(value) == "cdata" and tostring(typeof(value)) or type(value)
    end
    local message = "bad argument '%s' to '%s' (%s expected, got %s)"
    fail(message:format(name, fn, expected, tostring(got)))
end

-- For a method that was called with a dot, or on an object of another kind.
local function bad_self(what, letter, fn, value)
    return bad_argument(fn, "self", ("%s before a colon, as in %s:%s(),"):format(what, letter, fn), value)
end

-- A size in bytes or elements from `least` up, as a Lua number; it may come as a 64-bit integer of the FFI.
local function check_size(fn, name, value, least)
    if type(value) == "cdata" and (istype("int64_t", value) or istype("uint64_t", value)) then
        local number = tonumber(value)
        if number >= least and number <= MAX_SIZE then
            return number
        end
    elseif type(value) == "number" and value >= least and value <= MAX_SIZE and floor(value) == value then
        return value
    end
    return bad_argument(fn, name, least > 0 and "positive integer" or "integer from 0 up", value)
end

-- Whether a value is a pointer of any type. Arrays and structs are not pointers: the collector owns their memory.
local pointer_types = {} -- id of a C type -> whether values of it are pointers

local function is_pointer(value)
    if istype(void_ptr, value) then
        return true
    elseif type(value) ~= "cdata" then
        return false
    end
    local id = tonumber(typeof(value))
    local known = pointer_types[id]
    if known == nil then
        local text = tostring(typeof(value))
        known = (text:find("%*[%a ]*>$") or text:find("%(%*[%a ]*%)")) ~= nil
        pointer_types[id] = known
    end
    return known and tonumber(value) == nil -- a C type is cdata as well, but converts to a number
end

-- Whether an address can be stored in a value: an array of pointers, or a pointer to one.
local function is_place(value)
    if is_pointer(value) then
        return value ~= nil
    elseif type(value) ~= "cdata" or tonumber(value) ~= nil then
        return false
    end
    return tostring(typeof(value)):find("%*[%a ]*%[[%d?]+%]>$") ~= nil and sizeof(value) >= sizeof(void_ptr)
end

local function bad_pointer(fn, name, value)
    return bad_argument(fn, name, "pointer", value)
end

-- jemalloc does not check the arena and the tcache in flags. An index that no arena has makes it create one there, with
-- the tables before it missing; and what belongs to a heap, or to another state, goes when that ends (ids.h). The
-- number of arenas never falls, so it may be remembered.
--
-- An arena without a tcache flag means no tcache: else the thread's cache would answer with another arena's memory, and
-- be filled with this one's.
local flag = native.flags
local ARENA_SHIFT, TCACHE_SHIFT, TCACHE_MASK = flag.ARENA_SHIFT, flag.TCACHE_SHIFT, flag.TCACHE_MASK
local TCACHE_NONE, SHARED_ARENA = flag.TCACHE_NONE, flag.SHARED_ARENA
local client = native.client
local arena_owners = cast("const uint32_t *", functions.arena_owners)
local tcache_owners = cast("const uint32_t *", functions.tcache_owners)
local arenas_chosen = cast("uint32_t *", functions.arenas_chosen)
local arenas_seen = 0

-- Whether a tcache was made by this state, since the last fork().
local function owns_tcache(id)
    return band(tcache_owners[id], 0x7fffffff) == client
end

local function check_flags(fn, flags)
    if type(flags) ~= "number" or tobit(flags) ~= flags then
        bad_argument(fn, "flags", "a combination of MALLOCX flags", flags)
    end
    local tcache = rshift(band(flags, TCACHE_MASK), TCACHE_SHIFT) - 2
    if tcache >= 0 and not owns_tcache(tcache) then
        bad_argument(fn, "flags", "a tcache that this state has made", tcache)
    end
    local arena = rshift(flags, ARENA_SHIFT) - 1
    if arena < 0 then
        return flags
    elseif arena >= arenas_seen then
        arenas_seen = J.mallctl_read("arenas.narenas")
        if arena >= arenas_seen then
            bad_argument(fn, "flags", ("an arena below %d"):format(arenas_seen), arena)
        end
    end
    local owner = arena_owners[arena]
    if owner ~= 0 and owner ~= client and owner ~= SHARED_ARENA then
        bad_argument(fn, "flags", "an arena that belongs to no heap and to no other state", arena)
    end
    arenas_chosen[0] = 1
    return band(flags, TCACHE_MASK) == 0 and bor(flags, TCACHE_NONE) or flags
end

-- The flags by which a block is freed. No cache may keep it that nobody can flush when its arena goes.
local c_cache_flags = bind("cache_flags", "int (*)(void *, const void *, int)")

local function check_free_flags(fn, ptr, flags)
    flags = flags and check_flags(fn, flags) or 0
    local tcache = band(flags, TCACHE_MASK)
    if tcache == 0 then
        return arenas_chosen[0] ~= 0 and bor(flags, TCACHE_NONE) or flags
    elseif tcache ~= TCACHE_NONE then
        return c_cache_flags(native.record, ptr, flags)
    end
    return flags
end

-- The module's record of this state (memory.h), for functions that the FFI calls.
native.record = cast(void_ptr, native.memory)
native.bind, native.bad_argument, native.bad_self, native.bad_pointer =
    bind, bad_argument, bad_self, bad_pointer
native.is_pointer, native.is_place, native.check_size, native.MAX_SIZE = is_pointer, is_place, check_size, MAX_SIZE
native.check_flags, native.check_free_flags, native.owns_tcache = check_flags, check_free_flags, owns_tcache
native.arena_owners, native.arenas_chosen = arena_owners, arenas_chosen
