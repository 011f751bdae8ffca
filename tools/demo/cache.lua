-- A cache that keeps the `capacity` most recently used entries: a hash of entries that are also links of a
-- ring, the latest behind `ring`.
local Cache = {}
Cache.__index = Cache

local function unlink(entry)
    entry.before.after, entry.after.before = entry.after, entry.before
end

function Cache.new(capacity, make)
    local ring = {}
    ring.before, ring.after = ring, ring
    return setmetatable({ capacity = capacity, make = make, ring = ring, entries = {}, size = 0,
                          hits = 0, misses = 0, evictions = 0 }, Cache)
end

-- The value of key; one that is not there is made by make(key).
function Cache:get(key)
    local ring, entry = self.ring, self.entries[key]
    if entry then
        self.hits = self.hits + 1
        unlink(entry)
    else
        self.misses = self.misses + 1
        if self.size == self.capacity then
            local oldest = ring.before
            unlink(oldest)
            self.entries[oldest.key] = nil
            self.evictions = self.evictions + 1
        else
            self.size = self.size + 1
        end
        entry = { key = key, value = self.make(key) }
        self.entries[key] = entry
    end
    entry.before, entry.after = ring, ring.after
    ring.after.before, ring.after = entry, entry
    return entry.value
end

return Cache
