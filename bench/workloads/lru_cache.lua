-- A least-recently-used cache in front of a slow store: a hash and a doubly linked list. Blocks of three
-- sizes that live for a random while: the usual way to a fragmented heap.
local N = tonumber((...)) or 800000

local capacity = 20000
local seed = 42

local function random(n)
    seed = (seed * 16807) % 2147483647
    return seed % n
end

local map, count = {}, 0
local head, tail = {}, {}
head.next, tail.prev = tail, head

local function unlink(node)
    node.prev.next, node.next.prev = node.next, node.prev
end

local function push(node)
    node.next, node.prev = head.next, head
    head.next.prev, head.next = node, node
end

local function get(key)
    local node = map[key]
    if not node then return nil end
    unlink(node)
    push(node)
    return node.value
end

local function put(key, value)
    local node = { key = key, value = value, next = false, prev = false }
    map[key] = node
    push(node)
    count = count + 1
    if count > capacity then
        local last = tail.prev
        unlink(last)
        map[last.key] = nil
        count = count - 1
    end
end

local hits, misses = 0, 0
for _ = 1, N do
    local r = random(100)
    local key = r < 70 and random(10000) or random(200000) -- most requests ask for the same few
    if r % 7 == 0 then key = "page:" .. key end
    if get(key) then
        hits = hits + 1
    else
        misses = misses + 1
        put(key, r % 3 == 0 and { key, r, hits } or string.rep("v", r) .. key)
    end
end

local length, node = 0, head.next
while node ~= tail do
    assert(map[node.key] == node)
    length, node = length + 1, node.next
end
assert(length == count and count <= capacity and hits + misses == N)
print(string.format("lru_cache %d: %d hits, %d held", N, hits, length))
