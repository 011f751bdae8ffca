-- Tables that grow and shrink, stacks that do, strings of every size, unpack and concat: blocks change their
-- class both ways, which a garbage collector's shrinking does as well.
local N = tonumber((...)) or 6

local function deep(n)
    if n == 0 then
        return 0
    end
    return 1 + deep(n - 1)
end

for i = 1, N do
    local t = {} -- luacheck: ignore
    for k = 1, 40 * i do
        t[k], t["k" .. k] = k, { k }
    end
    for k = 1, 40 * i do
        t[k], t["k" .. k] = nil, nil
    end
    for k = 1, 10 do
        t[k + 0.5] = k -- rehashes into a smaller table
    end
    assert(deep(100 * i) == 100 * i)
    assert(select("#", unpack({}, 1, 200 * i)) == 200 * i)
    local text = ("x"):rep(300 * i)
    assert(#(text .. text:upper()) == 600 * i)
    collectgarbage(i % 2 == 0 and "collect" or "step")
end
