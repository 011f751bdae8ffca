-- One hash that grows key by key: each rehash allocates the doubled node array, moves every entry and frees
-- the old one; keys are fresh strings.
local N = tonumber((...)) or 500000

local total = 0
for round = 1, 2 do
    local hash = {}
    for i = 1, N do hash["key" .. i] = i end
    for i = 1, N, 2 do hash["key" .. i] = nil end
    local count, sum = 0, 0
    for _, value in pairs(hash) do count, sum = count + 1, sum + value end
    local evens = math.floor(N / 2)
    assert(count == evens and sum == evens * (evens + 1))
    total = total + sum + round
end
print(string.format("hash_growth %d: %.0f", N, total))
