-- How arguments are checked, and C functions bound. jemalloc checks nothing, so each argument is checked before
-- jemalloc sees it.

local ffi = require("ffi")
local bit = require("bit")

local J, native = ...

local type, tonumber, tostring, floor = type, tonumber, tostring, math.floor
local cast, istype, typeof, sizeof = ffi.cast, ffi.istype, ffi.typeof, ffi.sizeof
local tobit, rshift = bit.tobit, bit.rshift

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

-- jemalloc does not check the index of an arena in flags, and creates an arena there with the tables before it
-- missing. So only indices of existing arenas pass. The number of arenas never falls, so it may be remembered.
local ARENA_SHIFT = native.flags.ARENA_SHIFT
local arenas_seen = 0

local function check_flags(fn, flags)
    if type(flags) ~= "number" or tobit(flags) ~= flags then
        bad_argument(fn, "flags", "a combination of MALLOCX flags", flags)
    end
    local arena = rshift(flags, ARENA_SHIFT)
    if arena > arenas_seen then
        arenas_seen = J.mallctl_read("arenas.narenas")
        if arena > arenas_seen then
            bad_argument(fn, "flags", ("an arena below %d"):format(arenas_seen), arena - 1)
        end
    end
    return flags
end

-- The module's record of this state (memory.h), for functions that the FFI calls.
native.record = cast(void_ptr, native.memory)
native.bind, native.bad_argument, native.bad_self, native.bad_pointer =
    bind, bad_argument, bad_self, bad_pointer
native.is_pointer, native.is_place, native.check_size, native.check_flags, native.MAX_SIZE =
    is_pointer, is_place, check_size, check_flags, MAX_SIZE
