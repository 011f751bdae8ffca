-- Splits Lua source into tokens: { kind =, text =, line = }, one table each, as a compiler or a linter does.
local byte, find, sub = string.byte, string.find, string.sub

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
               true until while]]):gmatch("%a+") do keywords[word] = true end

-- The first and last byte of a long bracket that opens at `at`, or nil.
local function long_bracket(source, at)
    local _, opened, level = find(source, "^%[(=*)%[", at)
    if not opened then return nil end
    local _, closed = find(source, "]" .. level .. "]", opened, true)
    return at, closed or #source
end

local function short_string(source, at)
    local quote, i = byte(source, at), at + 1
    while true do
        local c = byte(source, i)
        if c == nil or c == quote then return i end
        i = i + (c == 92 and 2 or 1)
    end
end

-- Kind and last byte of the token at `at`, which is no blank.
local function scan(source, at)
    local c = sub(source, at, at)
    if find(c, "[%a_]") then
        local _, stop = find(source, "^[%w_]+", at)
        return keywords[sub(source, at, stop)] and "keyword" or "name", stop
    end
    if find(source, "^%.?%d", at) then
        local _, stop = find(source, "^[%w.]+", at)
        return "number", stop
    end
    if c == '"' or c == "'" then return "string", short_string(source, at) end
    if c == "[" then
        local _, stop = long_bracket(source, at)
        if stop then return "string", stop end
    end
    if c == "-" and byte(source, at + 1) == 45 then
        local _, stop = long_bracket(source, at + 2)
        return "comment", stop or (find(source, "\n", at, true) or #source + 1) - 1
    end
    local _, stop = find(source, "^[=~<>]=", at)
    if not stop then _, stop = find(source, "^%.%.%.?", at) end
    return "operator", stop or at
end

return function(source)
    local tokens, line, at = {}, 1, 1
    while true do
        local start = find(source, "%S", at)
        local blank = start and sub(source, at, start - 1) or ""
        for _ in blank:gmatch("\n") do line = line + 1 end
        if not start then return tokens end
        local kind, stop = scan(source, start)
        local text = sub(source, start, stop)
        tokens[#tokens + 1] = { kind = kind, text = text, line = line }
        for _ in text:gmatch("\n") do line = line + 1 end
        at = stop + 1
    end
end
