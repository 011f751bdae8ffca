-- One array that grows without its size being known, element by element: the table's array part doubles,
-- so a block of some hundred MB is reallocated again and again.
local N = tonumber((...)) or 25000000

local total = 0
for _ = 1, 2 do
    local array = {}
    for i = 1, N do array[i] = i end
    total = total + #array
    assert(array[1] == 1 and array[N] == N and array[N + 1] == nil)
    array = nil -- luacheck: ignore
    collectgarbage()
end
assert(total == 2 * N)
print(string.format("array_growth %d: %d elements", N, total))
