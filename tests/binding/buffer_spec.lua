-- Typed buffers and slices.

local ffi = require("ffi")
local J = require("jemalloc")
local traces = require("traces")

local function fails(pattern, f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    assert.truthy(message:find(pattern, 1, true), message)
end

describe("a buffer", function()
    it("holds n elements of a C type, zero at first", function()
        local b = J.buffer("double", 100)
        assert.equal(100, #b)
        assert.equal(100, b:len())
        assert.equal(800, b:bytes())
        for i = 0, 99 do
            assert.equal(0, b[i])
            b[i] = i * 2
        end
        assert.equal(198, b[99])
        assert.equal("jemalloc.buffer: 100 of double", tostring(b))
    end)

    it("takes any C type of a fixed size", function()
        local points = J.buffer("struct { int x, y; }", 3)
        points[2].x = 7
        assert.equal(7, points[2].x)
        local rows = J.buffer(ffi.typeof("float[4]"), 2)
        rows[1][3] = 0.5
        assert.equal(0.5, rows[1][3])
        local words = J.buffer("uint64_t", 1)
        words[0] = 2 ^ 63
        assert.equal(2 ^ 63, words[0])
        fails("'ctype'", J.buffer, "int[?]", 3)
        fails("'ctype'", J.buffer, "no such type", 3)
        fails("'ctype'", J.buffer, nil, 3)
        fails("'ctype'", J.buffer, "void", 3)
        fails("'ctype'", J.buffer, 5, 3)
    end)

    it("may be empty", function()
        local b = J.buffer("int", 0)
        assert.equal(0, #b)
        assert.equal("", b:tostring())
        fails("index 0 is out of bounds: the length is 0", function() return b[0] end)
        b:resize(2)
        b[1] = 5
        b:resize(0)
        assert.equal(0, #b)
        b:free()
    end)

    it("refuses an index out of its bounds, by name", function()
        local b = J.buffer("int", 10)
        for _, i in ipairs({ -1, 10, 1.5, 2 ^ 31, 2 ^ 40, 2 ^ 64, 0 / 0, -0.5, math.huge, -math.huge }) do
            fails("out of bounds: the length is 10", function() return b[i] end)
            fails("out of bounds: the length is 10", function() b[i] = 1 end)
        end
        local s = b:slice(0)
        for _, i in ipairs({ -1, 10, 1.5, 2 ^ 31, 2 ^ 40, 2 ^ 64, 0 / 0, -0.5, math.huge, -math.huge }) do
            fails("out of bounds: the length is 10", function() return s[i] end)
            fails("out of bounds: the length is 10", function() s[i] = 1 end)
        end
        fails("index 10 is", function() return b[10] end)
        fails("has no nothing", function() return b.nothing end)
        fails("has no len", function() b.len = 1 end)
    end)

    it("keeps contents and zeroes new elements on resize", function()
        local b = J.buffer("int", 4)
        b:fill(7)
        b:resize(2):resize(100000)
        assert.equal(7, b[1])
        for i = 2, 99999 do
            assert.equal(0, b[i])
        end
        b:resize(200000, false)
        assert.equal(200000, #b)
    end)

    it("refuses sizes that overflow or are none, and answers nil, ENOMEM for those too large", function()
        fails("'n'", J.buffer, "double", 2 ^ 52)
        fails("'n'", J.buffer, "double", -1)
        fails("'n'", J.buffer, "double", 1.5)
        fails("'n'", J.buffer, "double", 0 / 0)
        fails("'n'", J.buffer, "double")
        assert.same({ nil, J.ENOMEM }, { J.buffer("char", 2 ^ 50) })
        local b = J.buffer("double", 3)
        b[2] = 4
        fails("'n'", b.resize, b, 2 ^ 52)
        assert.same({ nil, J.ENOMEM }, { b:resize(2 ^ 47) })
        -- New elements are zero without a touch: there is no memory for so many.
        local huge = J.buffer("uint8_t", 10)
        huge:fill(1)
        huge:resize(5)
        if huge:resize(2 ^ 38) then
            assert.same({ 1, 0, 0 }, { huge[4], huge[5], huge[2 ^ 38 - 1] })
        end
        huge:free()
        assert.equal(4, b[2])
        fails("'options'", J.buffer, "int", 3, { size = 3 })
        fails("'align'", J.buffer, "int", 3, { align = 3 })
        fails("'arena'", J.buffer, "int", 3, { arena = 3 })
    end)

    it("may have more than 2^31 elements", function()
        local b = J.buffer("uint8_t", 2 ^ 31 + 10)
        b[2 ^ 31 + 9] = 5
        local s = b:slice(1)
        assert.equal(5, s[2 ^ 31 + 8])
        fails("out of bounds", function() return b[2 ^ 31 + 10] end)
        fails("out of bounds", function() s[2 ^ 31 + 9] = 1 end)
        b:free()
    end)

    it("is aligned as asked, after a resize as well", function()
        local b = J.buffer("char", 10, { align = 4096 })
        assert.equal(0, tonumber(ffi.cast("uintptr_t", b:ptr()) % 4096))
        b:resize(100000)
        assert.equal(0, tonumber(ffi.cast("uintptr_t", b:ptr()) % 4096))
    end)

    it("is filled, copied to, and read as a string", function()
        local b = J.buffer.from("hello, world")
        assert.equal(12, #b)
        assert.equal("hello, world", b:tostring())
        assert.equal("world", b:tostring(7))
        assert.equal("hello", b:tostring(0, 5))
        b:copy("HELLO")
        assert.equal("HELLO, world", b:tostring())
        b:copy("!", 11)
        b:copy(b:slice(0, 5), 2) -- overlapping
        assert.equal("HEHELLOworl!", b:tostring())
        b:fill(("x"):byte(), 0, 2)
        assert.equal("xxHELLOworl!", b:tostring())
        b:copy(ffi.cast("const char *", "ab"), 0, 2)
        assert.equal("abHELLOworl!", b:tostring())
        fails("out of bounds", b.copy, b, "too long for it")
        fails("out of bounds", b.copy, b, "x", 12)
        fails("'source'", b.copy, b, 5)
        fails("'count'", b.copy, b, b:ptr())
        fails("out of bounds", b.fill, b, 0, 13)
        fails("out of bounds", b.tostring, b, 3, 2)
        local doubles = J.buffer.from(("\0"):rep(16), "double")
        assert.equal(2, #doubles)
        fails("'text'", J.buffer.from, "123", "double")
        fails("'text'", J.buffer.from, 5)
    end)

    it("is iterated", function()
        local b, sum = J.buffer("int", 5):fill(3), 0
        for i, v in b:ipairs() do
            sum = sum + i * v
        end
        assert.equal(30, sum)
    end)

    it("raises an error when used after it was freed", function()
        local b = J.buffer("int", 5)
        local slice = b:slice(0, 2)
        b:free()
        b:free()
        fails("the buffer was freed", function() return b[0] end)
        fails("the buffer was freed", function() b[0] = 1 end)
        fails("the buffer was freed", function() return #b end)
        for _, method in ipairs({ "len", "ptr", "resize", "fill", "copy", "tostring", "slice", "ipairs", "bytes" }) do
            fails("the buffer was freed", b[method], b, 1)
        end
        fails("was freed", function() return slice[0] end)
        fails("was freed", function() return #slice end)
        assert.equal("jemalloc.buffer: no longer valid", tostring(b))
    end)
end)

describe("a slice", function()
    it("sees its buffer's elements", function()
        local b = J.buffer("int", 10)
        local s = b:slice(2, 6)
        assert.equal(4, #s)
        s[0] = 5
        assert.equal(5, b[2])
        b[5] = 9
        assert.equal(9, s[3])
        assert.equal(9, s:slice(3)[0])
        fails("out of bounds: the length is 4", function() return s[4] end)
        fails("out of bounds", b.slice, b, 3, 11)
        fails("out of bounds", b.slice, b, 5, 4)
        s:fill(1)
        assert.equal(1, b[5])
        assert.equal(0, b[6])
    end)

    it("keeps its buffer alive", function()
        local s = J.buffer.from(("x"):rep(100000)):slice(10, 20):slice(5)
        for _ = 1, 20 do
            collectgarbage()
            J.buffer.from(("y"):rep(100000)):free()
        end
        assert.equal("xxxxx", s:tostring())
    end)

    it("follows its buffer when that moves, and fails when it shrinks", function()
        local b = J.buffer("int", 10):fill(4)
        local s = b:slice(5)
        b:resize(1000000)
        assert.equal(4, s[4])
        b:resize(3)
        fails("resized to 3 elements", function() return s[4] end)
        fails("resized to 3 elements", function() s[0] = 1 end)
    end)
end)

describe("buffers and the collector", function()
    local function resident()
        for line in io.lines("/proc/self/status") do
            local kilobytes = line:match("^VmRSS:%s+(%d+)")
            if kilobytes then
                return tonumber(kilobytes) / 1024
            end
        end
    end

    it("a loop that makes and drops 1 MB buffers stays below 64 MB", function()
        local before, most = resident(), 0
        for i = 1, 5000 do
            local b = J.buffer("char", 2 ^ 20, { zero = false })
            b[i] = 1
            ffi.fill(b:ptr(), 2 ^ 20, 1)
            if i % 100 == 0 then
                most = math.max(most, resident() - before)
            end
        end
        assert.is_true(most < 64, ("grew by %d MB"):format(most))
    end)

    it("leave a collector alone that the script has stopped", function()
        collectgarbage()
        collectgarbage("stop")
        local finalized = false
        getmetatable(newproxy(true)).__gc = function() finalized = true end
        for _ = 1, 64 do
            J.buffer("char", 2 ^ 20)
            for _ = 1, 100 do -- what would step a collector that runs
                local _ = {}
            end
        end
        local running = collectgarbage("isrunning")
        assert.is_false(finalized)
        assert.is_false(running)
        collectgarbage("restart")
        for _ = 1, 1000 do
            J.buffer("char", 2 ^ 20)
        end
        assert.is_true(finalized)
    end)

    it("give back what they held", function()
        collectgarbage()
        collectgarbage()
        local before = J.buffer.held()
        local b = J.buffer("char", 1000)
        assert.equal(before + 1000, J.buffer.held())
        b:resize(3000)
        assert.equal(before + 3000, J.buffer.held())
        b:resize(10)
        assert.equal(before + 10, J.buffer.held())
        b:free()
        assert.equal(before, J.buffer.held())
    end)
end)

describe("a compiled loop", function()
    it("of reads and writes of a buffer and a slice has no abort", function()
        local b = J.buffer("double", 2000)
        local s = b:slice(0)
        traces.compiles(function(n)
            local sum = 0
            for i = 0, n - 1 do
                b[i] = i
                sum = sum + b[i] + s[i] + #b + #s
                s[i] = 2
            end
            return sum
        end)
        traces.compiles(function()
            local sum = 0
            for _, v in b:ipairs() do
                sum = sum + v
            end
            return sum
        end)
    end)
end)
