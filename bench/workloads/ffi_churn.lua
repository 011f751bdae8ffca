-- FFI cdata: boxed structs, arrays of varying length and 64-bit integers, some with a finalizer; kept for a
-- random while in a ring.
local ffi = require("ffi")
local N = tonumber((...)) or 6000000

ffi.cdef("typedef struct { double x, y, z; int id; } bench_point;")
local point = ffi.typeof("bench_point")
local bytes = ffi.typeof("uint8_t[?]")

local finalized = 0
local function finalize() finalized = finalized + 1 end

local ring, seed, wrapped = {}, 7, 0
for i = 1, N do
    seed = (seed * 16807) % 2147483647
    local value
    if i % 4 == 0 then
        value = bytes(16 + seed % 400)
        value[15] = i % 256
    else
        value = point(i, seed, 0.5, i)
    end
    if i % 2000 == 0 then
        ffi.gc(value, finalize)
        wrapped = wrapped + 1
    end
    ring[seed % 4096 + 1] = value
end

local sum, big = 0, 0LL
for i = 1, 4096 do
    local value = ring[i]
    if value and ffi.istype(point, value) then
        assert(value.x == value.id)
        sum = sum + value.id % 10
        big = big + ffi.cast("int64_t", value.id)
    end
end
assert(tonumber(big) >= sum)
ring = nil -- luacheck: ignore
collectgarbage()
collectgarbage()
assert(finalized == wrapped)
print(string.format("ffi_churn %d: %d", N, sum))
