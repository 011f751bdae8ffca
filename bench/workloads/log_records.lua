-- A log analyser: lines become records, records are grouped and aggregated, old windows expire. Records of
-- one size live for a window's time and die together.
local N = tonumber((...)) or 400000

local format = string.format
local windows, order, expired, errors = {}, {}, 0, 0

local function line(i)
    return format("%d 10.0.%d.%d GET /path/%d %d %d", i, i % 7, i % 251, i * 31 % 1009,
        i % 50 == 0 and 500 or 200, i * 17 % 5000)
end

for i = 1, N do
    local time, ip, method, path, code, size = line(i):match("(%d+) (%S+) (%u+) (%S+) (%d+) (%d+)")
    local key = math.floor(tonumber(time) / 5000)
    local window = windows[key]
    if not window then
        window = { records = {}, by_ip = {}, bytes = 0 }
        windows[key] = window
        order[#order + 1] = key
        if #order > 4 then -- the oldest window goes as a whole
            expired = expired + #windows[order[1]].records
            windows[table.remove(order, 1)] = nil
        end
    end
    local record = { ip = ip, method = method, path = path, code = tonumber(code), size = tonumber(size) }
    window.records[#window.records + 1] = record
    window.by_ip[ip] = (window.by_ip[ip] or 0) + 1
    window.bytes = window.bytes + record.size
    if record.code == 500 then errors = errors + 1 end
end

local held = 0
for _, key in ipairs(order) do held = held + #windows[key].records end
assert(expired + held == N and errors == math.floor(N / 50))
print(format("log_records %d: %d held, %d errors", N, held, errors))
