-- The module's table of mallctl names, read from its source, and a walk of jemalloc's own tree by number.

local ffi = require("ffi")

local source = assert(os.getenv("JEMALLOC_LUA_SOURCE"), "JEMALLOC_LUA_SOURCE names the source folder")
local native = {}
assert(loadfile(source .. "/binding/lua/names.lua"))({}, native)

local names = native.names

-- jemalloc's function that a function of the module holds as an upvalue.
local function upvalue(f, name)
    for i = 1, 60 do
        local found, value = debug.getupvalue(f, i)
        if found == name then
            return value
        elseif found and type(value) == "function" and value ~= f and debug.getinfo(value, "S").what == "Lua" then
            value = upvalue(value, name)
            if value then
                return value
            end
        end
    end
end

-- The MIBs of all names of the table that this jemalloc has, as "3.0.2", and the MIBs whose next number is an
-- index rather than a child's.
function names.mibs(J)
    local to_mib = upvalue(J.mallctl_read, "name_to_mib")
    local known, indexed = {}, {}
    for generic in pairs(names.all) do
        local mib, length = ffi.new("size_t[8]"), ffi.new("size_t[1]", 8)
        if to_mib(generic:gsub("<[ij]>", "0"), mib, length) == 0 then
            local path, i = {}, 0
            for word in generic:gmatch("[^.]+") do
                if word == "<i>" or word == "<j>" then
                    indexed[table.concat(path, ".")] = true
                end
                path[#path + 1] = tonumber(mib[i])
                i = i + 1
            end
            known[table.concat(path, ".")] = generic
        end
    end
    return { known = known, indexed = indexed }
end

-- The MIBs of leaves that jemalloc has and the table lacks. Where a level ends cannot be asked: names of
-- features that are compiled out answer ENOENT too, so the walk goes a little past the last one known.
local MISSES = 2

function names.walk(J, mibs)
    local by_mib = upvalue(J.mallctl_read, "by_mib")
    local last_child = {} -- MIB of a level -> its last child that the table knows
    for known in pairs(mibs.known) do
        local path = ""
        for number in known:gmatch("%d+") do
            last_child[path] = math.max(last_child[path] or 0, tonumber(number))
            path = path == "" and number or path .. "." .. number
        end
    end

    local junk = ffi.new("char[3]")
    local mib = ffi.new("size_t[8]")
    local unknown, leaves = {}, 0

    local function visit(depth, path)
        local last = mibs.indexed[path] and 0 or (last_child[path] or -1) + MISSES
        for i = 0, last do
            mib[depth] = i
            local here = path == "" and tostring(i) or path .. "." .. i
            if mibs.known[here] then
                leaves = leaves + 1
            elseif by_mib(mib, depth + 1, nil, nil, junk, 3) ~= J.ENOENT then
                unknown[#unknown + 1] = here
            elseif depth < 6 then
                visit(depth + 1, here)
            end
        end
    end

    visit(0, "")
    assert(leaves > 200, "the walk saw only " .. leaves .. " names")
    return unknown
end

return names
