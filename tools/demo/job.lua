-- The program that is compared: over a text and Lua sources it builds a word index, tokenises, takes both
-- through JSON and back, and answers requests from a cache with eviction. It does so `passes` times; the
-- results of a pass live until the next has replaced them, as in a program that reloads its data.
--
--     jemalloc-luajit job.lua PASSES TEXT LUA-FILE...
--
-- prints one JSON object: the result's checksum, the CPU seconds of the work, bytes of memory.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local json = require("json")
local word_index = require("word_index")
local tokenise = require("tokeniser")
local Cache = require("cache")

local function read(path)
    local file = assert(io.open(path, "rb"))
    local content = file:read("*a")
    file:close()
    return content
end

local function checksum(text, sum)
    for i = 1, #text do sum = (sum * 31 + text:byte(i)) % 4294967291 end
    return sum
end

-- Requests follow the text's words: many for few of them, as for pages of a site.
local function serve(index, lines, rounds)
    local cache = Cache.new(1000, function(key)
        local word, extra = key:match("^(.*)/(%d+)$")
        local found, page = index[word].lines, {}
        for i = 1, math.min(#found, 5 + tonumber(extra)) do page[i] = found[i] .. ": " .. lines[found[i]] end
        return table.concat(page, "\n")
    end)
    local bytes = 0
    for round = 1, rounds do
        for number, line in ipairs(lines) do
            for word in line:gmatch("%a[%w_'-]*") do
                bytes = bytes + #cache:get(word:lower() .. "/" .. (number + round) % 3)
            end
        end
    end
    return { bytes = bytes, hits = cache.hits, misses = cache.misses, evictions = cache.evictions }
end

local function pass(text, sources)
    local index, lines = word_index.build(text)
    local tokens = {}
    for i, source in ipairs(sources) do tokens[i] = tokenise(source) end
    local data = { index = index, tokens = tokens, top = word_index.ranking(index, 50) }
    local encoded = json.encode(data)
    local decoded = json.decode(encoded)
    assert(json.encode(decoded) == encoded, "JSON round trip: text differs")
    decoded.served = serve(decoded.index, lines, 2)
    return decoded, encoded
end

-- "VmHWM", "VmRSS": bytes of the process, where the kernel tells.
local function process_memory(name)
    local file = io.open("/proc/self/status")
    if not file then return nil end
    local kilobytes = file:read("*a"):match(name .. ":%s*(%d+) kB")
    file:close()
    return kilobytes and kilobytes * 1024
end

local passes = tonumber(arg[1])
local text, sources = read(arg[2]), {}
for i = 3, #arg do sources[i - 2] = read(arg[i]) end

local begin = os.clock()
local sum = 0
do
    local latest
    for _ = 1, passes do
        local data, encoded = pass(text, sources)
        latest = { data = data, encoded = encoded }
        sum = checksum(json.encode(data.served), checksum(json.encode(data.top), sum))
    end
    sum = checksum(latest.encoded, sum)
end
local seconds = os.clock() - begin

collectgarbage()
collectgarbage()
print(json.encode({ checksum = ("%08x"):format(sum), seconds = seconds, live = collectgarbage("count") * 1024,
                    peak = process_memory("VmHWM"), resident = process_memory("VmRSS") }))
