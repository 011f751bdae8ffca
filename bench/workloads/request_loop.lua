-- A server that gives every request a Lua state of its own: create, open libraries, compile, run, close. The
-- benchmark's host offers run_in_new_state(source, argument), which does that on the allocator under test;
-- elsewhere each request only gets a fresh environment.
local N = tonumber((...)) or 2000

local handler = [[
    local request = ...
    local headers, rows = {}, {}
    for i = 1, 20 do headers["x-header-" .. i] = "value " .. i * request end
    for i = 1, 100 do rows[i] = { id = i, text = ("row %d of %d"):format(i, request) } end
    table.sort(rows, function(a, b) return a.text < b.text end)
    local out = {}
    for i, row in ipairs(rows) do out[i] = row.id .. "=" .. row.text end
    return #table.concat(out, "\n") + #headers["x-header-20"]
]]

local function in_environment(source, argument)
    local chunk = assert(loadstring(source, "=request"))
    return setfenv(chunk, setmetatable({}, { __index = _G }))(argument)
end

local run = rawget(_G, "run_in_new_state") or in_environment

local total = 0
for request = 1, N do
    total = total + run(handler, request % 90 + 10)
end
assert(run(handler, 10) == 1592)
print(string.format("request_loop %d: %d", N, total))
