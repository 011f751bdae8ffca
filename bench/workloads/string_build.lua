-- String building as scripts do it: repeated "..", string.format, upper, reverse, gsub, table.concat.
-- Strings of every length from 10 bytes to some KB, most of them dead at once.
local N = tonumber((...)) or 2000

local format, concat = string.format, table.concat

local function line(i)
    local text = ""
    for field = 1, 12 do
        text = text .. format("%d=%x;", field, i * field)
    end
    return text
end

local total, kept = 0, {}
for round = 1, N do
    local lines = {}
    for i = 1, 60 do
        local text = line(round * 60 + i)
        lines[i] = (i % 4 == 0) and text:upper() or text:gsub("=", ": ")
    end
    local body = concat(lines, "\n")
    total = total + #body
    kept[round % 50 + 1] = body:sub(1, 200 + round % 300)
    if round % 100 == 0 then assert(body:reverse():reverse() == body) end
end
assert(#kept <= 50 and line(1):sub(1, 8) == "1=1;2=2;")
print(format("string_build %d: %d bytes", N, total))
