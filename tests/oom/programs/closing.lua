-- Finalizers that ask for memory when the state is closed, of userdata, of cdata and of a thread's objects.
local ffi = require("ffi")
local N = tonumber((...)) or 10

local log = {}
for i = 1, N do
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        log[#log + 1] = { "proxy " .. i, tostring(log) }
    end
    local box = ffi.gc(ffi.new("int[?]", i), function(b)
        log[#log + 1] = ("box of %d"):format(tonumber(b[0])):rep(i)
    end)
    box[0] = i
    log[i] = { proxy, box, coroutine.wrap(function()
        coroutine.yield(proxy)
    end) }
    log[i][3]()
end
FINISH_ARMED = true -- luacheck: ignore
