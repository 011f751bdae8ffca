-- The heap of the state that runs the module: statistics, limit, trim. All return nil and a reason in a state that
-- the library did not make.

local J, native = ...

local type, floor = type, math.floor

J.heap = {}

-- A table with the fields of jemalloc_lua_stats (jemalloc_lua.h).
J.heap.stats = native.heap_stats

-- Returns idle memory to the system, and the number of its bytes to the caller. Collects no garbage.
J.heap.trim = native.heap_trim

-- Sets the hard limit if `bytes` is given. Returns the limit in bytes; 0 means none.
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
