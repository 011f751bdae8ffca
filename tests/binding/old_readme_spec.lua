-- What the documentation of the binding for jemalloc 3.5 shows, as programs.

local ffi = require("ffi")
local J = require("jemalloc")

describe("a program for the binding of jemalloc 3.5", function()
    it("allocates memory for 1000 doubles that the collector frees", function()
        local ptr, err = J.mallocx(1000 * ffi.sizeof("double"), J.MALLOCX_ZERO())
        assert.is_nil(err)
        local doubles = ffi.gc(ffi.cast(ffi.typeof("double*"), ptr), J.dallocx)
        doubles[0] = math.random()
        assert.equal(0, doubles[999])
    end)

    it("combines flags by J.bor, or leaves them out", function()
        for _, flags in ipairs({ J.MALLOCX_LG_ALIGN(6), J.MALLOCX_ALIGN(64), J.MALLOCX_ZERO(), J.MALLOCX_ARENA(0),
            J.bor(J.MALLOCX_ALIGN(64), J.MALLOCX_ZERO(), J.MALLOCX_ARENA(0)) }) do
            local ptr = J.mallocx(100, flags)
            ptr = J.rallocx(ptr, 200, flags)
            assert.equal("number", type(J.xallocx(ptr, 200, 0, flags)))
            assert.equal(J.nallocx(200, flags), J.sallocx(ptr, flags))
            assert.is_true(J.malloc_usable_size(ptr) >= 200)
            J.dallocx(ptr, flags)
        end
        local ptr = J.rallocx(J.mallocx(100), 200)
        assert.is_true(J.xallocx(ptr, 200, 0) >= 200)
        J.dallocx(ptr)
    end)

    it("takes any number for an alignment, of which the lowest bit counts, as in jemalloc's macro", function()
        for a, la in pairs({ [1] = 0, [3] = 0, [6] = 1, [48] = 4, [64] = 6, [2 ^ 40 + 2 ^ 33] = 33 }) do
            assert.equal(la, J.MALLOCX_ALIGN(a))
        end
        J.dallocx(assert(J.mallocx(100, J.MALLOCX_ALIGN(3))))
        assert.is_false(pcall(J.buffer, "int", 1, { align = 48 })) -- a promise of this module's own is kept
    end)

    it("binds the standard API", function()
        local success, err = J.bind_standard_api()
        assert.is_true(success)
        assert.is_nil(err)
        assert.is_true(J.bind_standard_api())
        local ptr = J.malloc(10)
        ptr = J.realloc(ptr, 20)
        J.free(ptr)
        J.free(J.calloc(2, 10))
        local out = ffi.new("void *[1]")
        assert.is_true(J.posix_memalign(out, 16, 10))
        J.free(out[0])
        J.free(J.aligned_alloc(16, 32))
        assert.same({ nil, J.ENOMEM }, { J.malloc(2 ^ 50) })
    end)

    it("reads, writes and triggers by mallctl", function()
        assert.equal("string", type(J.mallctl_read("version")))
        assert.same({ nil, J.ENOENT }, { J.mallctl_read("not.a.name") })
        assert.is_true(J.mallctl_write("epoch", 1))
        assert.is_true(J.mallctl_read("thread.tcache.flush"))
        assert.is_true(J.mallctl_write("thread.tcache.flush"))
        for _, name in ipairs({ "EINVAL", "ENOENT", "EPERM", "EAGAIN", "EFAULT", "ENOMEM" }) do
            assert.equal("number", type(J[name]))
        end
    end)

    it("prints statistics and asks for the prefix", function()
        assert.equal("string", type(J.get_prefix()))
        assert.is_true(J.malloc_stats_print(nil, "gmdablxeh"))
    end)
end)
