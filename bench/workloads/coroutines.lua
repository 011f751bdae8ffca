-- A coroutine per request under a scheduler, as in OpenResty: each request gets its thread and stack,
-- waits a few times and ends; some hundred are under way at any time.
local N = tonumber((...)) or 250000

local create, resume, yield, status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status

local function read_body(id)
    local parts = {}
    for i = 1, 3 do
        parts[i] = yield("read") .. ":" .. id
    end
    return table.concat(parts, ",")
end

local function handle(id)
    local session = { id = id, headers = { host = "example.org", length = id % 1000 } }
    local body = read_body(id)
    yield("write")
    return #body + session.headers.length
end

local ready, started, finished, total = {}, 0, 0, 0
while finished < N do
    while #ready < 300 and started < N do
        started = started + 1
        local thread = create(handle)
        assert(resume(thread, started))
        ready[#ready + 1] = thread
    end
    local waiting = {}
    for i = 1, #ready do
        local thread = ready[i]
        local ok, result = resume(thread, "chunk" .. i)
        assert(ok, result)
        if status(thread) == "dead" then
            finished = finished + 1
            total = total + result
        else
            waiting[#waiting + 1] = thread
        end
    end
    ready = waiting
end
assert(started == N and finished == N)
print(string.format("coroutines %d: %d", N, total))
