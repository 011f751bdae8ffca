-- What a state does with the module's objects, one step for each call, chosen by the fuzzer's bytes. See objects.cpp.
--
-- Each block and buffer is filled with a byte of its own, which must still be there when it is looked at next.
-- Addresses are passed to other states, which free them at once by any way.

local choose, to_another_state, seeded_fault = ...
local ffi = require("ffi")
local J = require("jemalloc")

local blocks, arenas, tcaches, buffers = {}, {}, {}, {} -- blocks: {pointer, size, byte, arena or false}
local byte = 0
local sizes = { 1, 16, 64, 64, 64, 1000, 5000, 40000, 300000, 2000000 }

local function pick(list)
    return list[choose(#list) + 1]
end

local function take(list)
    if #list > 0 then
        return table.remove(list, choose(#list) + 1)
    end
end

local function next_byte()
    byte = byte % 255 + 1
    return byte
end

local function check(bytes, size, expected)
    bytes = ffi.cast("const unsigned char *", bytes)
    for _, at in ipairs({ 0, math.floor(size / 2), size - 1 }) do
        if bytes[at] ~= expected then
            error(("a byte of %d became %d"):format(expected, bytes[at]))
        end
    end
end

-- False where the block's arena was released, by a finalizer perhaps.
local function is_live(block)
    return not block[4] or (pcall(block[4].index, block[4]))
end

local function cache_flags()
    local kind = choose(4)
    if kind == 0 then
        return J.MALLOCX_TCACHE_NONE()
    elseif kind == 1 and #tcaches > 0 then
        return pick(tcaches):flags()
    elseif kind == 2 and #arenas > 0 then
        return bit.band(pick(arenas):flags(), 0xfff00)
    end
    return 0
end

-- Frees a block by any way that its size allows.
local function free(ptr, size)
    local how = choose(4)
    if how == 0 then
        J.sdallocx(ptr, size, cache_flags())
    elseif how == 1 then
        assert(J.bind_standard_api())
        J.free(ptr)
    elseif how == 2 then
        local moved = J.rallocx(ptr, 5000, cache_flags())
        J.dallocx(moved or ptr, cache_flags())
    else
        J.dallocx(ptr, cache_flags())
    end
end

local function keep_block(ptr, size, arena)
    if ptr then
        ffi.fill(ptr, size, next_byte())
        blocks[#blocks + 1] = { ptr, size, byte, arena }
    end
end

local function keep_buffer(buffer)
    if buffer and #buffer > 0 then
        buffer:fill(next_byte())
        buffers[#buffers + 1] = { buffer, byte }
    end
end

local function check_buffer(entry)
    if #entry[1] > 0 then
        check(entry[1]:ptr(), #entry[1], entry[2])
    end
end

local function with_gc()
    local object = newproxy(true)
    local steps = choose(6) + 1
    getmetatable(object).__gc = function()
        for _ = 1, steps do
            pcall(_G.step)
        end
    end
    if choose(2) == 0 then
        _G.kept = object
    end
end

local steps = {
    function() local n = pick(sizes) keep_block(J.mallocx(n), n, false) end,
    function() local n = pick(sizes) keep_block(J.mallocx(n, cache_flags()), n, false) end,
    function()
        local arena, n = pick(arenas), pick(sizes)
        if arena then
            keep_block(arena:mallocx(n, choose(2) == 0 and cache_flags() or nil), n, arena)
        end
    end,
    function()
        local arena, n = pick(arenas), pick(sizes)
        if arena then
            keep_block(J.mallocx(n, J.bor(J.MALLOCX_ARENA(arena), cache_flags())), n, arena)
        end
    end,
    function()
        local block = take(blocks)
        if block and is_live(block) then
            check(block[1], block[2], block[3])
            if choose(3) == 0 then
                to_another_state(tonumber(ffi.cast("uintptr_t", block[1])), block[2])
            else
                free(block[1], block[2])
            end
        end
    end,
    function() local arena = J.arena({ tcache = choose(2) == 0 }) arenas[#arenas + 1] = arena end,
    function()
        local arena = take(arenas)
        if arena then
            for i = #blocks, 1, -1 do
                if blocks[i][4] == arena then
                    table.remove(blocks, i)
                end
            end
            arena:release()
        end
    end,
    function()
        local arena = pick(arenas)
        if arena and J.mallctl_read(("arena.%d.reset"):format(arena:index())) then
            for i = #blocks, 1, -1 do
                if blocks[i][4] == arena then
                    table.remove(blocks, i)
                end
            end
        end
    end,
    function() tcaches[#tcaches + 1] = J.tcache() end,
    function() local tcache = take(tcaches) if tcache then tcache:release() end end,
    function() local tcache = pick(tcaches) if tcache then tcache:flush() end end,
    function() keep_buffer(J.buffer("uint8_t", pick(sizes), { align = 2 ^ choose(14), zero = choose(2) == 0 })) end,
    function()
        local arena = pick(arenas)
        if arena then
            keep_buffer(arena:buffer("uint8_t", pick(sizes), { align = 2 ^ choose(14) }))
            if seeded_fault then -- the arena does not wait for its buffers
                arena._block.owners = arena._block.owners - 1
            end
        end
    end,
    function() local entry = take(buffers) if entry then check_buffer(entry) entry[1]:free() end end,
    function()
        local entry = pick(buffers)
        if entry then
            check_buffer(entry)
            local before = #entry[1]
            if entry[1]:resize(pick(sizes)) and #entry[1] > before then
                check(entry[1]:ptr() + before, #entry[1] - before, 0)
            end
            entry[1]:fill(entry[2])
        end
    end,
    function() take(buffers) end,
    function() take(tcaches) end,
    function() collectgarbage() end,
    with_gc,
    function() ffi.gc(ffi.new("int[1]"), function() pcall(_G.step) end) end,
    function() J.heap.limit(choose(2) == 0 and 0 or 2 ^ 26) end,
    function() J.heap.trim() end,
}

function _G.step() -- luacheck: ignore
    return pick(steps)()
end

function _G.free_for_another_state(address, size) -- luacheck: ignore
    free(ffi.cast("void *", address), size)
end

function _G.look_at_all() -- luacheck: ignore
    for _, block in ipairs(blocks) do
        if is_live(block) then
            check(block[1], block[2], block[3])
        end
    end
    for _, entry in ipairs(buffers) do
        check_buffer(entry)
    end
end
