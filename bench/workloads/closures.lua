-- Callbacks: functional chains, promises and handlers. Closures with one to three upvalues, and the
-- upvalues themselves: blocks of 40 to 64 bytes, most of them dead soon.
local N = tonumber((...)) or 45000

local function map(f, g)
    return function(x) return f(g(x)) end
end

local function adder(n)
    return function(x) return x + n end
end

local function promise()
    local handlers, done, value = {}, false, nil
    local self = {}
    function self.after(f)
        if done then f(value) else handlers[#handlers + 1] = f end
        return self
    end
    function self.resolve(v)
        done, value = true, v
        for i = 1, #handlers do handlers[i](v) end
        handlers = nil
    end
    return self
end

local listeners, total = {}, 0
for round = 1, N do
    local chain = adder(round)
    for i = 1, 20 do
        chain = map(chain, adder(i))
    end
    local request = promise()
    for i = 1, 8 do
        request.after(function(value) total = total + value % 7 + i end)
    end
    listeners[round % 500 + 1] = function() return chain(round) end -- some live longer
    request.resolve(chain(0))
    if round % 500 == 0 then
        local f = listeners[round % 500 + 1]
        assert(f() == 2 * round + 210)
    end
end
print(string.format("closures %d: %d", N, total))
