-- The allocation functions of the module: what they give, what they refuse, and that they compile.

local ffi = require("ffi")
local J = require("jemalloc")
local traces = require("traces")

describe("mallocx and its family", function()
    it("allocates at least the bytes asked for, zeroed on request", function()
        local p = J.mallocx(1000 * 8, J.MALLOCX_ZERO())
        local doubles = ffi.gc(ffi.cast("double *", p), J.dallocx)
        for i = 0, 999 do
            assert.equal(0, doubles[i])
        end
        assert.equal(8192, J.sallocx(p))
        assert.equal(8192, J.nallocx(8000))
        assert.is_true(J.malloc_usable_size(p) >= 8000)
    end)

    it("aligns as the flags say", function()
        for lg = 0, 16 do
            local p = J.mallocx(24, J.MALLOCX_LG_ALIGN(lg))
            assert.equal(0, tonumber(ffi.cast("uintptr_t", p) % 2 ^ lg))
            J.dallocx(p)
        end
        assert.equal(J.MALLOCX_LG_ALIGN(12), J.MALLOCX_ALIGN(4096))
        local p = J.mallocx(10, J.bor(J.MALLOCX_ALIGN(64), J.MALLOCX_ZERO()))
        assert.equal(0, tonumber(ffi.cast("uintptr_t", p) % 64))
        J.dallocx(p)
    end)

    it("takes any number for an alignment, of which the lowest bit counts, as in jemalloc's macro", function()
        for a, la in pairs({ [1] = 0, [3] = 0, [6] = 1, [48] = 4, [64] = 6, [2 ^ 40 + 2 ^ 33] = 33 }) do
            assert.equal(la, J.MALLOCX_ALIGN(a))
        end
        J.dallocx(assert(J.mallocx(100, J.MALLOCX_ALIGN(3))))
        assert.is_false(pcall(J.buffer, "int", 1, { align = 48 })) -- a promise of this module's own is kept
    end)

    it("takes each kind of flag in each function", function()
        for _, flags in ipairs({ J.MALLOCX_LG_ALIGN(6), J.MALLOCX_ALIGN(64), J.MALLOCX_ZERO(), J.MALLOCX_ARENA(0),
            J.bor(J.MALLOCX_ALIGN(64), J.MALLOCX_ZERO(), J.MALLOCX_ARENA(0)) }) do
            local ptr = J.mallocx(100, flags)
            ptr = J.rallocx(ptr, 200, flags)
            assert.equal("number", type(J.xallocx(ptr, 200, 0, flags)))
            assert.equal(J.nallocx(200, flags), J.sallocx(ptr, flags))
            J.dallocx(ptr, flags)
        end
    end)

    it("keeps contents when a block is resized, and allocates where there was none", function()
        local p = J.rallocx(nil, 16)
        ffi.copy(p, "0123456789abcdef", 16)
        p = J.rallocx(p, 100000)
        assert.equal("0123456789abcdef", ffi.string(p, 16))
        assert.is_true(J.sallocx(p) >= 100000)
        J.dallocx(p)
    end)

    it("resizes in place by xallocx, or tells that it did not", function()
        local p = J.mallocx(16384)
        local size = J.xallocx(p, 16384)
        assert.equal(16384, size)
        assert.is_true(J.xallocx(p, 16384, 100000) >= 16384)
        J.dallocx(p)
    end)

    it("frees by dallocx and by sdallocx, and ignores nil", function()
        J.sdallocx(J.mallocx(100), 100)
        J.dallocx(J.mallocx(100))
        J.dallocx(nil)
        J.sdallocx(nil, 1)
    end)

    it("answers nil and ENOMEM when there is no memory", function()
        assert.same({ nil, J.ENOMEM }, { J.mallocx(2 ^ 50) })
        local p = J.mallocx(64)
        assert.same({ nil, J.ENOMEM }, { J.rallocx(p, 2 ^ 50) })
        J.dallocx(p)
    end)

    it("takes sizes as 64-bit integers too", function()
        J.dallocx(J.mallocx(100ULL))
        J.dallocx(J.mallocx(100LL))
        assert.has_error(function() J.mallocx(-1LL) end)
        assert.has_error(function() J.mallocx(2ULL ^ 60) end)
    end)

    it("takes no C type for a pointer of that type", function()
        assert.has_error(function() J.dallocx(ffi.typeof("int *")) end)
        assert.has_error(function() J.buffer("int", 1):copy(ffi.typeof(J.buffer("int", 1))) end)
    end)

    it("frees as a finalizer", function()
        for _ = 1, 1000 do
            ffi.gc(J.mallocx(1000), J.dallocx)
        end
        collectgarbage()
        collectgarbage()
    end)
end)

-- Which function and argument an error names: misuse_spec.lua.
describe("misuse raises an error", function()
    local function refuses(f, ...)
        assert.is_false((pcall(f, ...)))
    end

    it("for sizes", function()
        for _, size in ipairs({ 0, -1, 0 / 0, math.huge, -math.huge, 1.5, "x", "10", {}, true, 2 ^ 60 }) do
            refuses(J.mallocx, size)
            refuses(J.nallocx, size)
            refuses(J.rallocx, nil, size)
        end
        refuses(J.mallocx)
    end)

    it("for pointers", function()
        for _, pointer in ipairs({ 5, "x", {}, true, ffi.new("int[4]"), 5LL, ffi.new("struct { int x; }") }) do
            for _, name in ipairs({ "dallocx", "sdallocx", "sallocx", "rallocx", "xallocx", "malloc_usable_size" }) do
                refuses(J[name], pointer, 10)
            end
        end
        refuses(J.sallocx, nil)
        refuses(J.xallocx, ffi.cast("void *", 0), 10)
    end)

    it("for flags", function()
        for _, flags in ipairs({ 1.5, "x", 2 ^ 40, {}, 0 / 0, J.MALLOCX_ARENA(4000) }) do -- there is no such arena
            refuses(J.mallocx, 10, flags)
        end
        refuses(J.MALLOCX_ALIGN, 1.5)
        refuses(J.MALLOCX_LG_ALIGN, 64)
        refuses(J.MALLOCX_ARENA, 5000)
        refuses(J.MALLOCX_TCACHE, 5000)
    end)
end)

describe("the standard family", function()
    it("is bound once, on request", function()
        assert.is_true(J.bind_standard_api())
        assert.is_true(J.bind_standard_api())
    end)

    it("allocates and frees", function()
        J.bind_standard_api()
        local p = J.malloc(100)
        p = J.realloc(p, 200)
        J.free(p)
        J.free(J.realloc(nil, 10))
        local zeroed = ffi.cast("char *", J.calloc(10, 10))
        assert.equal(("\0"):rep(100), ffi.string(zeroed, 100))
        J.free(zeroed)
        J.free(nil)
        local aligned = J.aligned_alloc(256, 256)
        assert.equal(0, tonumber(ffi.cast("uintptr_t", aligned) % 256))
        J.free(aligned)
        local out = ffi.new("void *[1]")
        assert.is_true(J.posix_memalign(out, 64, 100))
        assert.equal(0, tonumber(ffi.cast("uintptr_t", out[0]) % 64))
        J.free(out[0])
    end)

    it("answers nil and the errno", function()
        J.bind_standard_api()
        assert.same({ nil, J.ENOMEM }, { J.malloc(2 ^ 50) })
        assert.same({ nil, J.ENOMEM }, { J.calloc(2 ^ 50, 2 ^ 50) })
        for _, place in ipairs({ 8LL, ffi.new("char[1]"), ffi.new("void *[?]", 0), ffi.typeof("void *[1]"), print }) do
            assert.has_error(function() J.posix_memalign(place, 64, 100) end)
        end
        assert.same({ nil, J.EINVAL }, { J.posix_memalign(ffi.new("void *[1]"), 3, 100) })
        assert.same({ nil, J.ENOMEM }, { J.posix_memalign(ffi.new("void *[1]"), 64, 2 ^ 50) })
        assert.same({ nil, J.EINVAL }, { J.aligned_alloc(3, 100) })
    end)
end)

describe("a compiled loop", function()
    it("of mallocx and dallocx has no abort", function()
        traces.compiles(function(n)
            for _ = 1, n do
                local p = J.mallocx(64)
                J.dallocx(p)
            end
        end)
    end)

    it("over pointers of any type has no abort", function()
        traces.compiles(function(n)
            for _ = 1, n do
                local p = ffi.cast("double *", J.mallocx(64))
                p[0] = 1
                J.dallocx(p)
            end
        end)
    end)

    it("of sallocx, nallocx, rallocx and flags has no abort", function()
        local p = J.mallocx(64)
        local flags = J.bor(J.MALLOCX_ZERO(), J.MALLOCX_ALIGN(32))
        traces.compiles(function(n)
            local sum = 0
            for i = 1, n do
                sum = sum + J.sallocx(p) + J.nallocx(i, flags) + J.malloc_usable_size(p)
                local q = J.mallocx(i, flags)
                q = J.rallocx(q, i + 100)
                J.sdallocx(q, i + 100)
            end
            return sum
        end)
        J.dallocx(p)
    end)
end)
