-- Sparse matrices as tables of rows: build, transpose, multiply. Hash parts of every power of two, that
-- grow by rehashing: the middle sizes between small objects and pages.
local N = tonumber((...)) or 1400

local function matrix(size, seed)
    local rows, state = {}, seed
    for i = 1, size do
        local row = {}
        for _ = 1, 8 do
            state = (state * 16807) % 2147483647
            row[state % size + 1] = state % 9 + 1
        end
        rows[i] = row
    end
    return rows
end

local function transpose(a)
    local t = {}
    for i = 1, #a do t[i] = {} end
    for i = 1, #a do
        for j, value in pairs(a[i]) do t[j][i] = value end
    end
    return t
end

local function multiply(a, b)
    local c = {}
    for i = 1, #a do
        local row = {}
        for k, x in pairs(a[i]) do
            for j, y in pairs(b[k]) do row[j] = (row[j] or 0) + x * y end
        end
        c[i] = row
    end
    return c
end

local function sum(a)
    local total = 0
    for i = 1, #a do
        for _, value in pairs(a[i]) do total = total + value end
    end
    return total
end

local total = 0
for round = 1, 12 do
    local a, b = matrix(N, round), matrix(N, round + 100)
    local c = multiply(a, b)
    assert(sum(transpose(c)) == sum(multiply(transpose(b), transpose(a)))) -- (AB)' = B'A'
    total = total + sum(c)
end
print(string.format("sparse_matrix %d: %d", N, total))
