-- A web service: decode a JSON document, change it, encode it again. Many short strings, small tables,
-- and one long string per round.
local N = tonumber((...)) or 900

local concat, format, byte, sub, find = table.concat, string.format, string.byte, string.sub, string.find

local function encode(value, out)
    local kind = type(value)
    if kind == "table" then
        if value[1] ~= nil then
            out[#out + 1] = "["
            for i = 1, #value do
                if i > 1 then out[#out + 1] = "," end
                encode(value[i], out)
            end
            out[#out + 1] = "]"
        else
            local keys = {}
            for key in pairs(value) do keys[#keys + 1] = key end
            table.sort(keys)
            out[#out + 1] = "{"
            for i, key in ipairs(keys) do
                out[#out + 1] = (i > 1 and ',"' or '"') .. key .. '":'
                encode(value[key], out)
            end
            out[#out + 1] = "}"
        end
    elseif kind == "string" then
        out[#out + 1] = '"' .. value:gsub('["\\]', "\\%0") .. '"'
    else
        out[#out + 1] = tostring(value)
    end
end

local decode_value

local function skip(text, at)
    return find(text, "[^ \n\t,:]", at) or #text + 1
end

local function decode_string(text, at)
    local close = at
    repeat
        close = find(text, '"', close + 1, true)
    until byte(text, close - 1) ~= 92
    return (sub(text, at + 1, close - 1):gsub("\\(.)", "%1")), close + 1
end

local function decode_list(text, at)
    local list = {}
    at = skip(text, at + 1)
    while byte(text, at) ~= 93 do
        list[#list + 1], at = decode_value(text, at)
        at = skip(text, at)
    end
    return list, at + 1
end

local function decode_object(text, at)
    local object = {}
    at = skip(text, at + 1)
    while byte(text, at) ~= 125 do
        local key
        key, at = decode_string(text, at)
        object[key], at = decode_value(text, skip(text, at))
        at = skip(text, at)
    end
    return object, at + 1
end

function decode_value(text, at)
    local c = byte(text, at)
    if c == 123 then return decode_object(text, at) end
    if c == 91 then return decode_list(text, at) end
    if c == 34 then return decode_string(text, at) end
    local _, last, word = find(text, "^([%w%.%-+]+)", at)
    if word == "true" then return true, last + 1 end
    if word == "false" then return false, last + 1 end
    return tonumber(word), last + 1
end

local users = {}
for i = 1, 60 do
    users[i] = {
        id = i,
        name = format("user %d \"the %dth\"", i, i),
        tags = { "alpha", "tag" .. i, "x" .. i * 7 },
        address = { street = i .. " Main Street", city = "City " .. i % 9, zip = format("%05d", i * 77) },
        scores = { i, i * 2, i * 3.5 },
        active = i % 2 == 0,
    }
end
local out = {}
encode(users, out)
local text = concat(out)

local bytes = 0
for round = 1, N do
    local document = decode_value(text, 1)
    document[1 + round % 60].name = "renamed in round " .. round % 10
    out = {}
    encode(document, out)
    local again = concat(out)
    bytes = bytes + #again
    if round % 10 == 0 then text = again end
end

local final = decode_value(text, 1)
assert(#final == 60 and final[60].address.zip == "04620" and final[7].scores[3] == 24.5)
assert(final[2].active == true and final[3].name:find("user 3 \"the 3th\"", 1, true) or N > 2)
print(format("json %d: %d bytes", N, bytes))
