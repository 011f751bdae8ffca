-- An object-oriented discrete-event simulation: classes with inheritance, a binary heap of events, small
-- messages between objects. Objects of several sizes with lifetimes from short to long.
local N = tonumber((...)) or 400000

local Class = {}
Class.__index = Class

function Class:extend()
    local class = setmetatable({}, self)
    class.__index = class
    return class
end

function Class:new(...)
    local object = setmetatable({}, self)
    object:init(...)
    return object
end

local Queue = Class:extend()
function Queue:init() self.heap, self.size = {}, 0 end

function Queue:push(event)
    local heap, i = self.heap, self.size + 1
    self.size = i
    while i > 1 do
        local parent = (i - i % 2) / 2
        if heap[parent].time <= event.time then break end
        heap[i] = heap[parent]
        i = parent
    end
    heap[i] = event
end

function Queue:pop()
    local heap, top, last, n = self.heap, self.heap[1], self.heap[self.size], self.size - 1
    heap[self.size] = nil
    self.size = n
    local i = 1
    while 2 * i <= n do
        local child = 2 * i
        if child < n and heap[child + 1].time < heap[child].time then child = child + 1 end
        if last.time <= heap[child].time then break end
        heap[i] = heap[child]
        i = child
    end
    if n > 0 then heap[i] = last end
    return top
end

local Event = Class:extend()
function Event:init(time, target, message) self.time, self.target, self.message = time, target, message end
function Event:fire(world) return self.target:receive(world, self.time, self.message) end

local Node = Class:extend()
function Node:init(id) self.id, self.received, self.log = id, 0, {} end
function Node:receive(world, time, message)
    self.received = self.received + 1
    self.log[self.received % 16 + 1] = { time = time, from = message.from }
    local to = world.nodes[(self.id * 7 + self.received * 3) % #world.nodes + 1]
    local delay = 1 + (self.id * 31 + self.received * 17) % 97
    world.queue:push(Event:new(time + delay, to, { from = self.id, hops = message.hops + 1, path = { self.id } }))
end

local Router = Node:extend()
function Router:receive(world, time, message)
    message.path[#message.path + 1] = self.id
    return Node.receive(self, world, time, message)
end

local world = { queue = Queue:new(), nodes = {} }
for id = 1, 200 do world.nodes[id] = (id % 5 == 0 and Router or Node):new(id) end
for i = 1, 2000 do
    world.queue:push(Event:new(i % 50, world.nodes[i % 200 + 1], { from = 0, hops = 0, path = {} }))
end

local now = 0
for _ = 1, N do
    local event = world.queue:pop()
    assert(event.time >= now)
    now = event.time
    event:fire(world)
end
local received = 0
for _, node in ipairs(world.nodes) do received = received + node.received end
assert(received == N and world.queue.size == 2000)
print(string.format("event_queue %d: time %d", N, now))
