-- A tokeniser driven by patterns, and a parser on top of it that builds a tree: what linters, query
-- languages and configuration readers do. Short strings, tokens as tables, trees that die at once.
local N = tonumber((...)) or 700

local rules = {
    { "space", "^%s+" },
    { "name", "^[%a_][%w_]*" },
    { "number", "^%d+%.?%d*" },
    { "string", '^"[^"]*"' },
    { "op", "^[%+%-%*/=<>]=?" },
    { "punct", "^[%(%){};,]" },
}

local function tokenise(source)
    local tokens, at = {}, 1
    while at <= #source do
        local matched
        for i = 1, #rules do
            local _, last = source:find(rules[i][2], at)
            if last then
                if rules[i][1] ~= "space" then
                    tokens[#tokens + 1] = { kind = rules[i][1], text = source:sub(at, last), at = at }
                end
                at, matched = last + 1, true
                break
            end
        end
        assert(matched, "unexpected character at " .. at)
    end
    return tokens
end

local expression

local function primary(tokens, i)
    local token = tokens[i]
    if token.text == "(" then
        local node
        node, i = expression(tokens, i + 1)
        return node, i + 1
    end
    if tokens[i + 1] and tokens[i + 1].text == "(" then
        local call = { "call", token.text }
        i = i + 2
        while tokens[i].text ~= ")" do
            call[#call + 1], i = expression(tokens, i)
            if tokens[i].text == "," then i = i + 1 end
        end
        return call, i + 1
    end
    return { token.kind, token.text }, i + 1
end

function expression(tokens, i)
    local left
    left, i = primary(tokens, i)
    while tokens[i] and tokens[i].kind == "op" do
        local right
        local op = tokens[i].text
        right, i = primary(tokens, i + 1)
        left = { op, left, right }
    end
    return left, i
end

local function statements(tokens)
    local list, i = {}, 1
    while tokens[i] do
        list[#list + 1], i = expression(tokens, i)
        assert(tokens[i].text == ";")
        i = i + 1
    end
    return list
end

local function count(node)
    local n = 1
    for i = 2, #node do
        if type(node[i]) == "table" then n = n + count(node[i]) end
    end
    return n
end

local lines = {}
for i = 1, 50 do
    lines[i] = string.format('x_%d = f(a%d, "text %d", 3.5 * (b + %d)) - g(y / 2, h(%d));', i, i, i % 7, i * i, i)
end
local source = table.concat(lines, "\n")

local nodes, tokens = 0, 0
for round = 1, N do
    local list = tokenise(source .. "\nround_" .. round .. " = " .. round .. ";")
    tokens = tokens + #list
    local tree = statements(list)
    assert(#tree == 51)
    for i = 1, #tree do nodes = nodes + count(tree[i]) end
end
assert(nodes == N * (50 * 17 + 3))
print(string.format("tokeniser %d: %d tokens, %d nodes", N, tokens, nodes))
