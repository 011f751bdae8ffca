-- The module: buffers, slices, arenas, tcaches, the namespace, the heap of this state. Not the functions that
-- return a plain pointer: where LuaJIT has no memory for the object of one, the block is lost, as that of any C
-- function is.
if not package.preload.jemalloc then -- LuaJIT on its own allocator
    return
end
local J = require("jemalloc")
local N = tonumber((...)) or 4

local function or_no_memory(value, err)
    if value == nil then
        assert(err == J.ENOMEM or err == J.EAGAIN or err == J.EFAULT, err)
        error("not enough memory", 0)
    end
    return value
end

for i = 1, N do
    local b = or_no_memory(J.buffer("double", 10 * i, { align = 64 }))
    b[1] = i
    or_no_memory(b:resize(1000 * i))
    assert(b[1] == i and #b == 1000 * i)
    local s = b:slice(1, 5)
    assert(s[0] == i)
    or_no_memory(J.buffer.from(("text %d "):format(i):rep(50)))
    local a = or_no_memory(J.arena({ dirty_decay_ms = 0 }))
    local kept = or_no_memory(a:buffer("char", 100))
    if i % 2 == 0 then
        a:release()
    end
    kept[0] = 1
    local t = or_no_memory(J.tcache())
    assert(t:flags() >= 0x200)
    if i % 2 == 0 then
        t:release()
    end
    assert(J.nallocx(100) >= 100 and J.ctl.arenas.narenas > 0)
    if i % 2 == 0 then
        b:free()
    end
    local stats = J.heap.stats()
    assert(stats.footprint >= stats.live)
end
