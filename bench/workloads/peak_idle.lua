-- A peak, then a long idle time: load a big report into memory, drop it, and go on with little. What counts
-- beside the time is how much memory the process still holds at the end.
local N = tonumber((...)) or 800000

local function load_report(rows)
    local report = {}
    for i = 1, rows do
        report[i] = { id = i, text = "row number " .. i }
    end
    return report
end

local report = load_report(N)
assert(#report == N and report[N].text == "row number " .. N)
local peak = collectgarbage("count")
report = nil -- luacheck: ignore
collectgarbage()
collectgarbage()
local idle = collectgarbage("count")
assert(idle < peak / 4 or N < 5000, "the report was not collected")

local served = 0
for i = 1, N / 2 do -- small requests on what is left
    local request = { path = "/status/" .. i % 100, n = i }
    if #request.path > 0 then served = served + 1 end
end
assert(served == math.floor(N / 2))
print(string.format("peak_idle %d: %d served", N, served))
