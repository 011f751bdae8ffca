-- Binary trees after Hans Boehm's garbage collection benchmark: many short-lived trees beside one that
-- stays. Tables of one size, freed by the sweep in the order in which they were made.
local N = tonumber((...)) or 16

local function bottom_up(depth)
    if depth == 0 then return {} end
    depth = depth - 1
    local left, right = bottom_up(depth), bottom_up(depth)
    return { left, right }
end

local function check(tree)
    if tree[1] then return 1 + check(tree[1]) + check(tree[2]) end
    return 1
end

local min_depth = 4
local max_depth = math.max(min_depth + 2, N)
assert(check(bottom_up(max_depth + 1)) == 2 ^ (max_depth + 2) - 1)
local long_lived = bottom_up(max_depth)

local total = 0
for depth = min_depth, max_depth, 4 do
    local iterations = 2 ^ (max_depth - depth + min_depth)
    local sum = 0
    for _ = 1, iterations do sum = sum + check(bottom_up(depth)) end
    assert(sum == iterations * (2 ^ (depth + 1) - 1))
    total = total + sum
end
assert(check(long_lived) == 2 ^ (max_depth + 1) - 1)
print(string.format("binary_trees %d: %d nodes", N, total))
