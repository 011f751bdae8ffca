-- Programs that never have enough, each in its own way.
--
--   runaways.lua          the names there are
--   runaways.lua NAME     runs one to the error that stops it, and prints, between tabs: the resident memory of
--                         the process before, the highest since, both in KiB, the heap's peak in bytes, the error

local forever = 1e9
local kept = {}
local runaways = {}
local names = {}

local function runaway(name, program)
    names[#names + 1] = name
    runaways[name] = program
end

-- ---- One table

runaway("array", function()
    for i = 1, forever do kept[i] = i end
end)

runaway("hash", function()
    for i = 1, forever do kept["key " .. i] = i end
end)

runaway("sparse", function()
    for i = 1, forever do kept[i * 7919] = i end
end)

-- ---- Small blocks

runaway("tables", function()
    for i = 1, forever do kept[i] = { i } end
end)

runaway("records", function()
    for i = 1, forever do
        local record = { id = i, name = "record " .. i, tags = { i, i + 1, i + 2 } }
        if i % 2 == 0 then kept[i / 2] = record end
    end
end)

runaway("strings", function()
    for i = 1, forever do kept[i] = "string " .. i end
end)

runaway("closures", function()
    for i = 1, forever do
        kept[i] = function() return i end
    end
end)

runaway("functions", function()
    for i = 1, forever do kept[i] = assert(loadstring("return " .. i)) end
end)

runaway("coroutines", function()
    for i = 1, forever do kept[i] = coroutine.create(print) end
end)

runaway("deep coroutines", function()
    local function deep(n)
        if n == 0 then return coroutine.yield() end
        return 1 + deep(n - 1)
    end
    for i = 1, forever do
        kept[i] = coroutine.create(deep)
        coroutine.resume(kept[i], 500 + i % 1000)
    end
end)

runaway("userdata", function()
    for i = 1, forever do kept[i] = newproxy(true) end
end)

runaway("cdata", function()
    local ffi = require "ffi"
    for i = 1, forever do kept[i] = ffi.new("char[?]", i % 100) end
end)

runaway("finalizers", function()
    local ffi = require "ffi"
    for i = 1, forever do kept[i] = ffi.gc(ffi.new "int[2]", type) end
end)

-- ---- Large blocks

runaway("growing strings", function()
    for i = 1, forever do kept[i] = ("x"):rep(i * 97) end
end)

-- A little more than a size class: as far from what jemalloc rounds up to as can be.
runaway("odd sizes", function()
    for i = 1, forever do kept[i] = ("x"):rep(16360) .. i end
end)

-- A little less: all of it is touched.
runaway("even sizes", function()
    for i = 1, forever do kept[i] = ("x"):rep(20400) .. i end
end)

runaway("large strings", function()
    for i = 1, forever do kept[i] = ("x"):rep(300000) .. i end
end)

runaway("large cdata", function()
    local ffi = require "ffi"
    for i = 1, forever do
        local block = ffi.new("char[?]", 1e6)
        ffi.fill(block, 1e6, 1)
        kept[i] = block
    end
end)

-- ---- Memory that comes and goes

runaway("doubling", function()
    local s = "x"
    while true do s = s .. s end
end)

runaway("concat", function()
    local s, more = "", ("x"):rep(500000)
    while true do s = s .. more end
end)

runaway("table.concat", function()
    local parts, part = {}, ("x"):rep(1000)
    for i = 1, forever do
        parts[i] = part
        if i % 1000 == 0 then kept[#kept + 1] = table.concat(parts, ",", i - 999) end
    end
end)

-- Of each generation a quarter stays, and the next one does not fit between.
runaway("gaps", function()
    for generation = 1, forever do
        for i = #kept + 1, #kept + 40000 do kept[i] = ("x"):rep(generation * 20) .. i end
        for i = 1, #kept do
            if i % 4 ~= 0 then kept[i] = false end
        end
        collectgarbage()
    end
end)

-- Refused, it asks for less, until there is no room for the smallest table.
runaway("to the brim", function()
    local size = 2 ^ 24
    while size >= 16 do
        local function more() kept[#kept + 1] = ("x"):rep(size) .. #kept end
        if not pcall(more) then size = size / 2 end
    end
    for i = 1, forever do kept[-i] = { i } end
end)

-- ---- One of them

local function status(field)
    for line in io.lines "/proc/self/status" do
        local kib = line:match("^" .. field .. ":%s*(%d+) kB")
        if kib then return kib end
    end
end

local wanted = ...
if not wanted then
    print(table.concat(names, "\n"))
    return
end
local before = status "VmRSS"
local _, message = pcall(runaways[wanted])
kept = nil -- no new table yet, as there is no memory for it
collectgarbage()
print(table.concat({ before, status "VmHWM", require("jemalloc").heap.stats().peak, message }, "\t"))
