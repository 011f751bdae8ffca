-- A program that catches errors at every turn, those for want of memory included, and goes on.
local N = tonumber((...)) or 20

local function may_fail(f, ...)
    local ok, message = pcall(f, ...)
    if not ok and not tostring(message):find("on purpose") and not tostring(message):find("not enough memory") then
        error(message, 0)
    end
    return ok
end

local done = 0
for i = 1, N do
    may_fail(function()
        local parts = {}
        for k = 1, i do
            parts[k] = ("%d:%d"):format(i, k)
        end
        if i % 2 == 0 then
            error(setmetatable({}, { __tostring = function() return "on purpose" end }))
        end
        return table.concat(parts)
    end)
    may_fail(function()
        local co = coroutine.wrap(function(a)
            local b = coroutine.yield({ a })
            error("on purpose " .. tostring(b))
        end)
        co(i)
        co({ i })
    end)
    may_fail(function()
        return xpcall(function()
            return ("x"):rep(i * 100) .. nil
        end, function(message)
            return debug.traceback(message)
        end)
    end)
    done = done + 1
end
assert(done == N)
