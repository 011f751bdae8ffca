-- Misuse: every error says where in the caller's program it is, and what was wrong.

local ffi = require("ffi")
local J = require("jemalloc")

-- f must fail, with a message that has the text and begins with a line of this file.
local function blames_caller(text, f)
    local ok, message = pcall(f)
    assert.is_false(ok, text)
    assert.truthy(message:find("misuse_spec.lua:%d+: "), message)
    assert.truthy(message:find(text, 1, true), message)
    assert.falsy(message:find("@?jemalloc/%w+.lua"), message)
end

describe("an error", function()
    it("of the raw functions points at the caller's line, and names the argument", function()
        local p = J.mallocx(8)
        assert(J.bind_standard_api())
        blames_caller("'size' to 'mallocx'", function() J.mallocx(-1) end)
        blames_caller("'flags' to 'mallocx'", function() J.mallocx(1, "x") end)
        blames_caller("'size' to 'rallocx'", function() J.rallocx(p, -1) end)
        blames_caller("'ptr' to 'rallocx'", function() J.rallocx(5, 1) end)
        blames_caller("'extra' to 'xallocx'", function() J.xallocx(p, 1, -1) end)
        blames_caller("'ptr' to 'sallocx'", function() J.sallocx(5) end)
        blames_caller("'ptr' to 'dallocx'", function() J.dallocx(5) end)
        blames_caller("'size' to 'sdallocx'", function() J.sdallocx(p, -1) end)
        blames_caller("'size' to 'nallocx'", function() J.nallocx(-1) end)
        blames_caller("'ptr' to 'malloc_usable_size'", function() J.malloc_usable_size(5) end)
        blames_caller("'la' to 'MALLOCX_LG_ALIGN'", function() J.MALLOCX_LG_ALIGN(-1) end)
        blames_caller("'a' to 'MALLOCX_ALIGN'", function() J.MALLOCX_ALIGN(0) end)
        blames_caller("'a' to 'MALLOCX_ARENA'", function() J.MALLOCX_ARENA(-1) end)
        blames_caller("'tc' to 'MALLOCX_TCACHE'", function() J.MALLOCX_TCACHE(-1) end)
        blames_caller("'size' to 'malloc'", function() J.malloc(-1) end)
        blames_caller("'number' to 'calloc'", function() J.calloc(-1, 1) end)
        blames_caller("'ptr' to 'posix_memalign'", function() J.posix_memalign(1, 1, 1) end)
        blames_caller("'alignment' to 'aligned_alloc'", function() J.aligned_alloc(-1, 1) end)
        blames_caller("'ptr' to 'realloc'", function() J.realloc(1, 1) end)
        blames_caller("'ptr' to 'free'", function() J.free(1) end)
        J.dallocx(p)
    end)

    it("of mallctl and the heap does as well", function()
        blames_caller("'param' to 'mallctl_read'", function() J.mallctl_read(5) end)
        blames_caller("'input' to 'mallctl_read'", function() J.mallctl_read("version", 5) end)
        blames_caller("'param' to 'mallctl_write'", function() J.mallctl_write(5) end)
        blames_caller("has no nope", function() return (J.ctl.nope) end)
        blames_caller("stats is not a value", function() J.ctl.stats = 1 end)
        blames_caller("epoch takes an integer", function() J.ctl.epoch = "x" end)
        blames_caller("'opts' to 'malloc_stats_print'", function() J.malloc_stats_print(nil, 5) end)
        blames_caller("'bytes' to 'heap.limit'", function() J.heap.limit(-1) end)
    end)

    it("of buffers and slices does as well", function()
        local b = J.buffer("int", 4)
        local s = b:slice(0, 2)
        blames_caller("'n' to 'buffer'", function() J.buffer("int", -1) end)
        blames_caller("'n' to 'buffer'", function() J.buffer("int", 2 ^ 53) end)
        blames_caller("'ctype' to 'buffer'", function() J.buffer("no such type", 1) end)
        blames_caller("'options' to 'buffer'", function() J.buffer("int", 1, 5) end)
        blames_caller("'options' to 'buffer'", function() J.buffer("int", 1, { x = 1 }) end)
        blames_caller("'align' to 'buffer'", function() J.buffer("int", 1, { align = 3 }) end)
        blames_caller("'arena' to 'buffer'", function() J.buffer("int", 1, { arena = 3 }) end)
        blames_caller("'text' to 'buffer.from'", function() J.buffer.from(1) end)
        blames_caller("index 9 is out of bounds", function() return (b[9]) end)
        blames_caller("index 9 is out of bounds", function() s[9] = 1 end)
        blames_caller("a buffer has no x", function() return (b.x) end)
        blames_caller("index 9 is out of bounds", function() b:fill(1, 9) end)
        blames_caller("'source' to 'copy'", function() b:copy(5) end)
        blames_caller("index 9 is out of bounds", function() b:tostring(9) end)
        blames_caller("index 9 is out of bounds", function() s:slice(9) end)
        blames_caller("'n' to 'resize'", function() b:resize(-1) end)
        b:free()
        blames_caller("the buffer was freed", function() b:len() end)
        blames_caller("the buffer that this slice is of was freed", function() return (s[0]) end)
    end)

    it("of arenas and tcaches does as well", function()
        local a, t = J.arena(), J.tcache()
        blames_caller("'options' to 'arena'", function() J.arena(5) end)
        blames_caller("'size' to 'arena:mallocx'", function() a:mallocx(-1) end)
        blames_caller("'n' to 'buffer'", function() a:buffer("int", -1) end)
        a:release()
        t:release()
        blames_caller("the arena was released", function() a:index() end)
        blames_caller("the arena was released", function() a:purge() end)
        blames_caller("the tcache was released", function() t:id() end)
    end)
end)

describe("a method", function()
    local b, a, t = J.buffer("int", 4), J.arena(), J.tcache()
    local s = b:slice(0, 2)
    local strangers = { 5, "text", {}, ffi.new("struct { int a; }"), ffi.cast("void *", 0), ffi.typeof("int"), s, a, t,
        J.buffer("double", 4) }

    it("that is called with a dot or on something else says so", function()
        for what, method in pairs({ buffer = { b, { "len", "bytes", "ptr", "fill", "copy", "tostring", "ipairs",
            "resize", "slice", "free" } }, arena = { a, { "index", "flags", "mallocx", "dallocx", "buffer",
            "purge", "decay", "stats", "release" } }, tcache = { t, { "id", "flags", "flush", "release" } },
            slice = { s, { "len", "bytes", "ptr", "fill", "copy", "tostring", "ipairs", "slice" } } }) do
            local object = method[1]
            for _, name in ipairs(method[2]) do
                local f = object[name]
                local expected = ("'self' to '%s' (%s before a colon"):format(name, what)
                blames_caller(expected, function() f() end)
                for _, stranger in ipairs(strangers) do
                    if stranger ~= object then
                        blames_caller(expected, function() f(stranger, 1) end)
                    end
                end
            end
        end
        assert.equal(4, #b)
    end)
end)
