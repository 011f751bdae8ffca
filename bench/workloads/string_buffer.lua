-- One buffer that grows to a large response by small appends: LuaJIT's string.buffer where there is one,
-- else repeated doubling by "..". A block of many MB is reallocated again and again.
local N = tonumber((...)) or 10000000

local ok, buffer = pcall(require, "string.buffer")

local function build(count)
    if ok then
        local out = buffer.new()
        for i = 1, count do out:put("item ", i % 1000, "; ") end
        return out:tostring()
    end
    local parts, text = {}, ""
    for i = 1, count do
        parts[#parts + 1] = "item " .. i % 1000 .. "; "
        if #parts == 100000 then
            text = text .. table.concat(parts)
            parts = {}
        end
    end
    return text .. table.concat(parts)
end

local length = 0
for _ = 1, 2 do
    local text = build(N)
    assert(text:sub(1, 16) == "item 1; item 2; " and text:sub(-2) == "; ")
    length = length + #text
end
print(string.format("string_buffer %d: %d bytes", N, length))
