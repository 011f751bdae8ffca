-- JSON: encode(value) and decode(text). Objects come out with their keys sorted, so that equal values give
-- equal text; a table with anything at [1], or with nothing, is an array.
local byte, char, find, format, sub = string.byte, string.char, string.find, string.format, string.sub

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
                  ["\r"] = "\\r", ["\t"] = "\\t" }
local unescapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
                    b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function escape(c)
    return escapes[c] or format("\\u%04x", byte(c))
end

local put -- put(out, value) appends value's text to the array out

local function put_array(out, array)
    out[#out + 1] = "["
    for i = 1, #array do
        if i > 1 then out[#out + 1] = "," end
        put(out, array[i])
    end
    out[#out + 1] = "]"
end

local function put_object(out, object)
    local keys = {}
    for key in pairs(object) do keys[#keys + 1] = key end
    table.sort(keys)
    for i = 1, #keys do
        out[#out + 1] = i == 1 and "{" or ","
        put(out, keys[i])
        out[#out + 1] = ":"
        put(out, object[keys[i]])
    end
    out[#out + 1] = "}"
end

function put(out, value)
    local kind = type(value)
    if kind == "string" then
        out[#out + 1] = '"' .. value:gsub('[%c"\\]', escape) .. '"'
    elseif kind == "number" then
        out[#out + 1] = format("%.17g", value)
    elseif kind == "table" then
        if value[1] ~= nil or next(value) == nil then put_array(out, value) else put_object(out, value) end
    else
        out[#out + 1] = tostring(value)
    end
end

local function encode(value)
    local out = {}
    put(out, value)
    return table.concat(out)
end

local function fail(text, at, wanted)
    error(format("JSON at byte %d: %s expected, not %q", at, wanted, sub(text, at, at + 9)), 0)
end

local function skip(text, at)
    return find(text, "[^ \t\r\n]", at) or #text + 1
end

local function take_string(text, at) -- at is behind the opening quote
    local pieces
    while true do
        local stop = find(text, '["\\]', at) or fail(text, #text, "end of string")
        if byte(text, stop) == 34 then
            local last = sub(text, at, stop - 1)
            return pieces and pieces .. last or last, stop + 1
        end
        local letter = sub(text, stop + 1, stop + 1)
        local plain = letter == "u" and char(tonumber(sub(text, stop + 2, stop + 5), 16) % 256)
            or unescapes[letter] or fail(text, stop, "an escape")
        pieces = (pieces or "") .. sub(text, at, stop - 1) .. plain
        at = stop + (letter == "u" and 6 or 2)
    end
end

local words = { ["true"] = true, ["false"] = false }

local function take(text, at)
    at = skip(text, at)
    local c = sub(text, at, at)
    if c == '"' then return take_string(text, at + 1) end
    if c == "[" or c == "{" then
        local closing, result = c == "[" and "]" or "}", {}
        at = skip(text, at + 1)
        if sub(text, at, at) == closing then return result, at + 1 end
        while true do
            local key = #result + 1
            if c == "{" then
                at = skip(text, at)
                if sub(text, at, at) ~= '"' then fail(text, at, "a key") end
                key, at = take_string(text, at + 1)
                at = skip(text, at)
                if sub(text, at, at) ~= ":" then fail(text, at, "a colon") end
                at = at + 1
            end
            result[key], at = take(text, at)
            at = skip(text, at)
            local separator = sub(text, at, at)
            if separator == closing then return result, at + 1 end
            if separator ~= "," then fail(text, at, "a comma or " .. closing) end
            at = at + 1
        end
    end
    local _, stop, word = find(text, "^([%w+.-]+)", at)
    local value = words[word]
    if value == nil then value = tonumber(word) or word ~= "null" and fail(text, at, "a value") or nil end
    return value, stop + 1
end

local function decode(text)
    local value, at = take(text, 1)
    if skip(text, at) <= #text then fail(text, at, "nothing more") end
    return value
end

return { encode = encode, decode = decode }
