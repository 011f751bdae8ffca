-- Buffers as blocks of the heap of their state: what they give back is within its limit, as what Lua gives back.

local ffi = require("ffi")
local J = require("jemalloc")

local setting = os.getenv("JEMALLOC_LUA_SETTING") or "stock"
local ours = setting == "host" or setting == "command"
local MB = 2 ^ 20

local function resident()
    for line in io.lines("/proc/self/status") do
        local kilobytes = line:match("^VmRSS:%s+(%d+)")
        if kilobytes then
            return tonumber(kilobytes) / 1024
        end
    end
end

-- The most that `work` adds to the resident memory while each call of it adds one more thing to keep.
local function most_resident(limit, times, work)
    collectgarbage()
    J.heap.trim()
    local before, most, kept = resident(), 0, {}
    J.heap.limit(J.heap.stats().footprint + limit)
    for i = 1, times do
        kept[i] = work(i)
        most = math.max(most, resident() - before)
    end
    J.heap.limit(0)
    assert.equal(times, #kept)
    return most
end

local function is_within(limit, most)
    assert.is_true(most < limit + 8, ("%d MB more are resident, the limit left %d"):format(most, limit))
end

describe("in a state of the library", function()
    if not ours then
        return
    end

    it("what a buffer gives back stays below the limit", function()
        is_within(48, most_resident(48 * MB, 40, function()
            local b = assert(J.buffer("char", 6 * MB)):fill(1)
            return b:resize(MB)
        end))
    end)

    it("what a buffer in an arena gives back does as well", function()
        local arena = J.arena()
        is_within(48, most_resident(48 * MB, 40, function()
            local b = assert(arena:buffer("char", 6 * MB)):fill(1)
            return b:resize(MB)
        end))
    end)

    it("what a huge block of Lua's gives back in its place does as well", function()
        is_within(48, most_resident(48 * MB, 28, function()
            local t = require("table.new")(6 * MB / 8, 0)
            for i = 1, 6 * MB / 8 do
                t[i] = i
            end
            for i = 100001, 6 * MB / 8 do
                t[i] = nil
            end
            t.key = 1
            return t
        end))
    end)

    it("a buffer that is refused is no peak", function()
        J.heap.limit(0)
        local arena = J.arena()
        for _, options in ipairs({ {}, { arena = arena }, { align = 64 } }) do
            assert.same({ nil, J.ENOMEM }, { J.buffer("char", 2 ^ 50, options) })
            J.heap.limit(J.heap.stats().footprint + 8 * MB)
            assert.same({ nil, J.ENOMEM }, { J.buffer("char", 2 ^ 40, options) })
            J.heap.limit(0)
        end
        assert.is_true(J.heap.stats().peak < 2 ^ 32)
    end)

    it("buffers count where they are asked for, and no more once they are freed", function()
        collectgarbage()
        local before = J.heap.stats().footprint
        local buffers = {}
        for k, size in ipairs({ 10, 1000, 40000, 3 * MB, 24 * MB }) do
            buffers[k] = J.buffer("char", size, { align = 2 ^ (3 + k) })
            assert.equal(0, tonumber(ffi.cast("uintptr_t", buffers[k]:ptr()) % 2 ^ (3 + k)))
        end
        assert.is_true(J.heap.stats().footprint > before + 27 * MB)
        for _, b in ipairs(buffers) do
            b:free()
        end
        assert.is_true(J.heap.stats().footprint < before + MB)
    end)

    it("a huge buffer is not touched before it is used, whatever its size", function()
        local before = resident()
        local b = J.buffer("struct { double x, y, z; }", 2 ^ 22, { zero = false }) -- as a table's hash part
        local c = J.buffer("double", 2 ^ 24)
        assert.is_true(resident() - before < 16)
        b:free()
        c:free()
    end)
end)

describe("the contents of a buffer", function()
    it("survive any sequence of sizes and alignments, and new elements are zero", function()
        local seed = 1
        local function random(n)
            seed = seed * 16807 % 2147483647
            return seed % n
        end
        for _, align in ipairs({ 1, 16, 64, 4096, 65536 }) do
            local b, model = J.buffer("uint8_t", 0, { align = align }), {}
            local wrong = 0
            for _ = 1, 60 do
                local n = random(random(4) == 0 and 600000 or 3000)
                assert(b:resize(n))
                for i = n, #model do
                    model[i] = nil
                end
                for _ = 1, 50 do
                    if n > 0 then
                        local at = random(n)
                        wrong = wrong + ((model[at] or 0) == b[at] and 0 or 1)
                        model[at] = random(256)
                        b[at] = model[at]
                    end
                end
                for at, value in pairs(model) do
                    if at >= n then
                        model[at] = nil
                    else
                        wrong = wrong + (value == b[at] and 0 or 1)
                    end
                end
                wrong = wrong + (ffi.cast("uintptr_t", b:ptr()) % align == 0 and 0 or 1)
            end
            assert.equal(0, wrong)
        end
    end)
end)
