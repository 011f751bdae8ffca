-- jemalloc's MALLCTL NAMESPACE: values read and written and actions done by name, or through the table J.ctl.
--
-- A name is looked up once in the table of names (names.lua) and once in jemalloc, which answers with a MIB, an
-- array of numbers. Both results are kept, so each further read is one mallctlbymib() into a scratch value of
-- the right type. Values are Lua numbers up to 2^53, and 64-bit cdata above.

local ffi = require("ffi")

local J, native = ...

local type, tonumber, tostring, pcall = type, tonumber, tostring, pcall
local setmetatable, floor = setmetatable, math.floor
local new, sizeof, ffi_string, istype = ffi.new, ffi.sizeof, ffi.string, ffi.istype

local bad_argument, fail = native.bad_argument, native.fail
local find, children = native.names.find, native.names.children
local ENOENT, EPERM, EINVAL = J.ENOENT, J.EPERM, J.EINVAL

local name_to_mib = native.bind("mallctlnametomib", "int (*)(const char *, size_t *, size_t *)")
local by_mib = native.bind("mallctlbymib",
    "int (*)(const size_t *, int64_t, void *, size_t *, void *, int64_t)")

-- ---- Values

local MAX_EXACT = 2 ^ 53

local function to_number(value)
    local number = tonumber(value)
    if number > MAX_EXACT or number < -MAX_EXACT then
        return value
    end
    return number
end

local function to_string(value)
    return value ~= nil and ffi_string(value) or nil
end

local function as_is(value)
    return value
end

local function integer(value)
    if type(value) == "number" then
        return floor(value) == value and value or nil
    end
    return (istype("int64_t", value) or istype("uint64_t", value)) and value or nil
end

-- By C type: the type of the scratch array, the conversion to Lua, the check of a value from Lua if it must be an
-- integer, what messages call it, and an integer's bounds.
local kinds = {
    ["bool"] = { "bool[1]", as_is, nil, "a boolean" },
    ["unsigned"] = { "unsigned[1]", as_is, integer, "an integer from 0 to 2^32 - 1", 0, 2 ^ 32 - 1 },
    ["uint32_t"] = { "uint32_t[1]", as_is, integer, "an integer from 0 to 2^32 - 1", 0, 2 ^ 32 - 1 },
    ["size_t"] = { "size_t[1]", to_number, integer, "an integer from 0 up", 0, 2 ^ 64 - 1 },
    ["uint64_t"] = { "uint64_t[1]", to_number, integer, "an integer from 0 up", 0, 2 ^ 64 - 1 },
    ["ssize_t"] = { "ssize_t[1]", to_number, integer, "an integer", -2 ^ 63, 2 ^ 63 - 1 },
    ["int64_t"] = { "int64_t[1]", to_number, integer, "an integer", -2 ^ 63, 2 ^ 63 - 1 },
    ["const char *"] = { "const char *[1]", to_string, nil, "a string" },
    ["char *"] = { "const char *[1]", to_string, nil, "a string" }, -- jemalloc writes to where it points
    ["uint64_t *"] = { "uint64_t *[1]", as_is },
    ["size_t *"] = { "size_t *[1]", as_is },
    ["extent_hooks_t *"] = { "void *[1]", as_is, nil, "a pointer" },
    ["void*"] = { "void *[1]", as_is, nil, "a pointer" },
}

-- A new scratch array that holds `value`; or nil and a message that says what the name takes.
local function encode(name, ctype, value)
    local kind = kinds[ctype]
    local scratch = new(kind[1])
    local fits
    if ctype == "bool" then
        fits = type(value) == "boolean"
    elseif ctype == "const char *" or ctype == "char *" then
        fits = type(value) == "string" and not value:find("%z")
    elseif kind[3] then
        local whole = integer(value)
        fits = whole ~= nil and tonumber(whole) >= kind[5] and tonumber(whole) <= kind[6]
    else
        fits = type(value) == "cdata" and tonumber(value) == nil -- a C type converts to a number
    end
    if fits and pcall(function() scratch[0] = value end) then
        return scratch
    end
    local shown = type(value) == "string" and ("'%s'"):format(value) or tostring(value)
    return nil, ("%s takes %s, got %s"):format(name, kind[4], shown)
end

-- ---- Names

local known, known_count = {}, 0 -- name -> {mib, its length, entry of the table of names, scratch, ...}

-- The record of a name; nil and an errno if the table or jemalloc lacks it.
local function resolve(fn, name)
    local hit = known[name]
    if hit then
        return hit
    end
    if type(name) ~= "string" then
        bad_argument(fn, "param", "name in jemalloc's mallctl namespace", name)
    end
    local entry, real_name = find(name)
    if not entry then
        return nil, ENOENT
    end
    local mib, length = new("size_t[8]"), new("size_t[1]", 8)
    local err = name_to_mib(real_name, mib, length)
    if err ~= 0 then
        return nil, err
    end
    local kind = kinds[entry.type]
    hit = {
        mib = mib,
        length = tonumber(length[0]),
        entry = entry,
        access = entry.access,
        scratch = kind and new(kind[1]),
        size = kind and new("size_t[1]", sizeof(kind[1])),
        bytes = kind and sizeof(kind[1]),
        decode = kind and kind[2],
    }
    if entry.type == "char *" then
        hit.text = new("char[256]")
        hit.scratch[0] = hit.text
    end
    if known_count == 4096 then -- names with indices are endless
        known, known_count = {}, 0
    end
    known[name], known_count = hit, known_count + 1
    return hit
end

local function out_of_reach(hit)
    local entry = hit.entry
    return nil, ("%s takes a C structure (%s), which the module does not bind"):format(entry.name, entry.type)
end

-- ---- Names of jemalloc 3.5 whose values had another form

local ALL_ARENAS = native.flags.ALL_ARENAS

local old_reads = {
    ["opt.lg_tcache_max"] = function()
        local bytes, err = J.mallctl_read("opt.tcache_max")
        return bytes and floor(math.log(bytes) / math.log(2) + 0.5), err
    end,
    ["arenas.initialized"] = function()
        local list = {}
        for i = 0, J.mallctl_read("arenas.narenas") - 1 do
            list[i] = J.mallctl_read(("arena.%d.initialized"):format(i))
        end
        return list
    end,
    ["arenas.purge"] = function()
        return J.mallctl_write(("arena.%d.purge"):format(ALL_ARENAS))
    end,
}

local old_writes = {
    ["arenas.purge"] = function(arena)
        if arena ~= nil and not (type(arena) == "number" and arena >= 0 and floor(arena) == arena) then
            return nil, ("arenas.purge takes an arena's index, got %s"):format(tostring(arena))
        end
        return J.mallctl_write(("arena.%d.purge"):format(arena or ALL_ARENAS))
    end,
}

-- ---- The functions

-- What is made, flushed, emptied and destroyed by number goes through C++, which knows whose it is (ids.h). jemalloc
-- does all of it to any number without a check, and corrupts its memory where the number is wrong.
local memory = native.record
local create_by_number = {
    ["tcache.create"] = native.bind("tcache_create_by_number", "int (*)(void *, unsigned *, void *)"),
    ["arenas.create"] = native.bind("arena_create_by_number", "int (*)(void *, unsigned *, void *)"),
}
local change_tcache = native.bind("tcache_change_by_number", "int (*)(void *, unsigned, bool)")
local prepare_to_empty = native.bind("arena_prepare_to_empty", "int (*)(void *, unsigned, bool)")

local function act(hit)
    local name = hit.entry.name
    if name == "arena.<i>.reset" or name == "arena.<i>.destroy" then
        local err = prepare_to_empty(memory, hit.mib[1], name == "arena.<i>.destroy")
        if err ~= 0 then
            return nil, err
        end
    end
    local err = by_mib(hit.mib, hit.length, nil, nil, nil, 0)
    if err ~= 0 then
        return nil, err
    end
    return true
end

-- Whether a value would bind an arena that is not the script's alone to something that outlives it: a thread, whose
-- cache then holds its blocks, or hooks.
local function is_anothers(hit, value)
    local index
    if hit.entry.name == "thread.arena" then
        index = value[0]
    elseif hit.entry.name == "arena.<i>.extent_hooks" then
        index = tonumber(hit.mib[1])
    end
    if not index or index >= native.flags.ARENA_INDICES then
        return false
    end
    local owner = native.arena_owners[index]
    return owner ~= 0 and not (hit.entry.name == "thread.arena" and owner == native.flags.SHARED_ARENA)
end

-- `input` is the address for arenas.lookup, or the hooks for arenas.create.
function J.mallctl_read(param, input)
    local hit, err = resolve("mallctl_read", param)
    if not hit then
        local old = old_reads[param]
        if old then
            return old()
        end
        return nil, err
    end
    local access = hit.access
    if access == "--" then
        return act(hit)
    elseif access == "-w" then
        return nil, EPERM
    elseif access == "??" then
        return out_of_reach(hit)
    end
    local scratch, size = hit.scratch, hit.size
    size[0] = hit.bytes
    local create = create_by_number[hit.entry.name]
    if create and input == nil then
        err = create(memory, scratch, nil)
    elseif input == nil then
        if param == "arenas.lookup" then -- without an address jemalloc crashes
            return nil, EINVAL
        end
        err = by_mib(hit.mib, hit.length, scratch, size, nil, 0)
    else
        if not hit.entry.input then
            bad_argument("mallctl_read", "input", "nothing, for this name,", input)
        end
        local value, message = encode(param, hit.entry.input, input)
        if not value then
            return nil, message
        end
        if create then
            err = create(memory, scratch, value[0])
        else
            err = by_mib(hit.mib, hit.length, scratch, size, value, sizeof(value))
        end
    end
    if err ~= 0 then
        return nil, err
    end
    return hit.decode(scratch[0])
end

function J.mallctl_write(param, value)
    local hit, err = resolve("mallctl_write", param)
    if not hit then
        local old = old_writes[param]
        if old then
            return old(value)
        end
        return nil, err
    end
    local access = hit.access
    if access == "--" then
        return act(hit)
    elseif access == "r-" then
        return nil, EPERM
    elseif access == "??" then
        return out_of_reach(hit)
    end
    local encoded, message = encode(param, hit.entry.input or hit.entry.type, value)
    if not encoded then
        return nil, message
    end
    if is_anothers(hit, encoded) then
        return nil, EPERM
    elseif hit.entry.input then -- jemalloc takes the input and answers in one call
        return J.mallctl_read(param, value)
    elseif param == "tcache.flush" or param == "tcache.destroy" then
        err = change_tcache(memory, encoded[0], param == "tcache.destroy")
    else
        err = by_mib(hit.mib, hit.length, nil, nil, encoded, sizeof(encoded))
    end
    if err ~= 0 then
        return nil, err
    end
    return true
end

-- ---- The namespace as a table

local paths = setmetatable({}, { __mode = "k" }) -- node of J.ctl -> {name with indices, name with <i>}

local node_methods = {}

local function child(node, key)
    local path = paths[node]
    local below = children[path[2]]
    local generic = key
    if type(key) == "number" and key >= 0 and floor(key) == key then
        generic = below["<i>"] and "<i>" or "<j>"
        key = ("%d"):format(key)
    end
    if not below[generic] then
        fail(("jemalloc's mallctl namespace has no %s%s"):format(
            path[1] == "" and "" or path[1] .. ".", tostring(key)))
    end
    if path[1] ~= "" then
        key, generic = path[1] .. "." .. key, path[2] .. "." .. generic
    end
    return key, generic
end

local function node_at(name, generic)
    local node = setmetatable({}, node_methods)
    paths[node] = { name, generic }
    return node
end

local function fail_by(name, err)
    fail(("jemalloc: %s: %s"):format(name, type(err) == "string" and err or native.strerror(err)))
end

function node_methods.__index(node, key)
    local name, generic = child(node, key)
    local entry = native.names.all[generic]
    if not entry then
        return node_at(name, generic)
    elseif entry.access == "--" then
        return function()
            local done, err = act(resolve("J.ctl", name) or fail_by(name, ENOENT))
            return done or fail_by(name, err)
        end
    end
    local value, err = J.mallctl_read(name)
    if value == nil and err and err ~= ENOENT then
        fail_by(name, err)
    end
    return value
end

function node_methods.__newindex(node, key, value)
    local name, generic = child(node, key)
    if not native.names.all[generic] then
        fail(("%s is not a value of jemalloc's mallctl namespace, but a part of it"):format(name))
    end
    local done, err = J.mallctl_write(name, value)
    if not done then
        fail_by(name, err)
    end
end

function node_methods.__tostring(node)
    return "jemalloc.ctl: " .. paths[node][1]
end

J.ctl = node_at("", "")

-- ---- The statistics report

-- write: nil prints on stderr; a function or an open file gets the text; true returns it.
-- opts: letters as for "opt.stats_print_opts", such as "J" for JSON.
function J.malloc_stats_print(write, opts)
    if opts ~= nil and type(opts) ~= "string" then
        bad_argument("malloc_stats_print", "opts", "string of option letters", opts)
    end
    if write == nil or write == false then
        native.stats_print(native.functions.malloc_stats_print, opts)
        return true
    end
    local text = native.stats_text(native.functions.malloc_stats_print, opts)
    if write == true then
        return text
    elseif type(write) == "function" then
        write(text)
    elseif io.type(write) == "file" then
        return write:write(text)
    else
        bad_argument("malloc_stats_print", "write", "function, open file or true", write)
    end
    return true
end
