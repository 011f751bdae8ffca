-- The heap of the very state that runs: statistics, limit, trim. nil and a reason where the state is not
-- one of jemalloc_lua's.

local J, native = ...

local type, floor = type, math.floor

J.heap = {}

-- Bytes and counts, as in jemalloc_lua_stats of jemalloc_lua.h.
J.heap.stats = native.heap_stats

-- Gives unused memory back to the system; bytes released. Collects no garbage.
J.heap.trim = native.heap_trim

-- The hard limit in bytes, 0 for none; sets it first where `bytes` is given.
function J.heap.limit(bytes)
    if bytes ~= nil then
        if type(bytes) ~= "number" or not (bytes >= 0 and bytes <= 2 ^ 53) or floor(bytes) ~= bytes then
            native.bad_argument("heap.limit", "bytes", "integer from 0 up", bytes)
        end
        local done, reason = native.heap_set_limit(bytes)
        if not done then
            return nil, reason
        end
    end
    local stats, reason = native.heap_stats()
    if not stats then
        return nil, reason
    end
    return stats.limit
end
