-- Arenas and tcaches as objects, and the heap of the running state.

local ffi = require("ffi")
local J = require("jemalloc")

local setting = os.getenv("JEMALLOC_LUA_SETTING") or "stock"

local function fails(pattern, f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    assert.truthy(message:find(pattern, 1, true), message)
end

local function lives(index)
    J.mallctl_write("epoch", 1)
    return J.mallctl_read(("arena.%d.initialized"):format(index))
end

describe("an arena", function()
    it("takes no record, and with another tcache no block, from what a released arena leaves behind", function()
        for _ = 1, 50 do
            local one, all = J.arena(), {}
            for k = 1, 40 do
                all[k] = assert(one:mallocx(16, J.MALLOCX_TCACHE_NONE()))
                assert.equal(one:index(), J.mallctl_read("arenas.lookup", all[k]))
            end
            for k = 1, 40 do
                J.dallocx(all[k])
            end
            local another = J.arena()
            one:release()
            another:release()
        end
    end)

    it("serves allocations of its own", function()
        local arena = J.arena({ dirty_decay_ms = 0, muzzy_decay_ms = 0 })
        assert.equal(0, J.ctl.arena[arena:index()].dirty_decay_ms)
        local p = arena:mallocx(1000)
        assert.equal(arena:index(), J.mallctl_read("arenas.lookup", p))
        assert.is_true(arena:stats().allocated >= 1000)
        arena:dallocx(p)
        local q = J.mallocx(1000, J.bor(J.MALLOCX_ARENA(arena), J.MALLOCX_TCACHE_NONE()))
        assert.equal(arena:index(), J.mallctl_read("arenas.lookup", q))
        J.dallocx(q, J.MALLOCX_TCACHE_NONE())
        assert.is_true(arena:purge())
        assert.is_true(arena:decay())
        arena:release()
    end)

    it("is destroyed when it is released, and errs when used after", function()
        local arena = J.arena()
        local index = arena:index()
        arena:mallocx(100)
        arena:release()
        arena:release()
        assert.is_false(lives(index))
        for _, method in ipairs({ "index", "flags", "mallocx", "dallocx", "buffer", "purge", "decay", "stats" }) do
            fails("the arena was released", arena[method], arena, 1, 1)
        end
        fails("the arena was released", J.MALLOCX_ARENA, arena)
        fails("the arena was released", J.buffer, "int", 1, { arena = arena })
        assert.equal("jemalloc.arena: released", tostring(arena))
    end)

    it("waits for the buffers in it", function()
        local arena = J.arena()
        local index = arena:index()
        local b = arena:buffer("int", 1000)
        assert.equal(index, J.mallctl_read("arenas.lookup", ffi.cast("void *", b:ptr())))
        arena:release()
        assert.is_true(lives(index))
        b:resize(100000)
        assert.equal(index, J.mallctl_read("arenas.lookup", ffi.cast("void *", b:ptr())))
        b[999] = 1
        b:free()
        assert.is_false(lives(index))
    end)

    it("is released by the collector, whatever is left in it", function()
        local before = J.mallctl_read("arenas.narenas")
        for _ = 1, 200 do
            local arena = J.arena()
            arena:mallocx(100)
            arena:buffer("int", 1000)
            collectgarbage()
            collectgarbage()
        end
        assert.is_true(J.mallctl_read("arenas.narenas") < before + 50)
    end)

    it("refuses options that it does not have, and values that do not fit", function()
        fails("'options'", J.arena, { colour = 1 })
        fails("'options'", J.arena, 5)
        local arena, err = J.arena({ dirty_decay_ms = "soon" })
        assert.is_nil(arena)
        assert.truthy(err:find("takes an integer", 1, true))
        fails("'size'", function()
            local a = J.arena({ tcache = false })
            a:mallocx(0)
        end)
    end)
end)

describe("a tcache", function()
    it("caches, flushes, and errs when used after release", function()
        local tcache = J.tcache()
        local p = J.mallocx(64, J.MALLOCX_TCACHE(tcache))
        J.dallocx(p, tcache:flags())
        assert.equal(tcache:flags(), J.MALLOCX_TCACHE(tcache:id()))
        assert.is_true(tcache:flush())
        tcache:release()
        tcache:release()
        for _, method in ipairs({ "id", "flags", "flush" }) do
            fails("the tcache was released", tcache[method], tcache)
        end
        fails("the tcache was released", J.MALLOCX_TCACHE, tcache)
        assert.equal("jemalloc.tcache: released", tostring(tcache))
    end)

    it("may hold blocks of an arena that is released before it", function()
        local arena, tcache = J.arena(), J.tcache()
        local flags = J.bor(J.MALLOCX_ARENA(arena), J.MALLOCX_TCACHE(tcache))
        J.dallocx(J.mallocx(64, flags), tcache:flags())
        arena:release()
        tcache:release()
    end)

    it("is released by the collector", function()
        for _ = 1, 5000 do
            J.tcache()
        end
        collectgarbage()
        collectgarbage()
        assert.is_true(J.tcache():id() < 4000)
    end)
end)

describe("the heap of the running state", function()
    it("is told of where it is ours, and refused with a reason where it is not", function()
        local stats, reason = J.heap.stats()
        if setting == "host" or setting == "command" then
            assert.is_true(stats.footprint >= stats.live)
            assert.is_true(stats.live > 0)
            assert.equal("string", type(stats.front))
            assert.equal(0, J.heap.limit())
            assert.equal(2 ^ 40, J.heap.limit(2 ^ 40))
            assert.equal(0, J.heap.limit(0))
            assert.equal("number", type(J.heap.trim()))
        else
            assert.is_nil(stats)
            assert.equal("this state does not run on a heap of jemalloc_lua", reason)
            for _, f in ipairs({ J.heap.stats, J.heap.trim, J.heap.limit }) do
                assert.same({ nil, reason }, { f(1) })
            end
        end
        fails("'bytes'", J.heap.limit, -1)
        fails("'bytes'", J.heap.limit, "x")
    end)

    it("counts buffers towards the limit, and collects dropped ones before it refuses", function()
        if setting ~= "host" and setting ~= "command" then
            return
        end
        local MB = 2 ^ 20
        collectgarbage()
        local before = J.heap.stats().footprint
        local kept = J.buffer("char", 4 * MB)
        assert.is_true(J.heap.stats().footprint >= before + 4 * MB)
        J.heap.limit(before + 16 * MB)
        local refusals = J.heap.stats().refusals
        assert.same({ nil, J.ENOMEM }, { J.buffer("char", 32 * MB) })
        assert.is_true(J.heap.stats().refusals > refusals)
        assert.same({ nil, J.ENOMEM }, { kept:resize(32 * MB) })
        assert.equal(4 * MB, #kept)
        local all = {}
        for i = 1, 100 do
            all[i] = J.buffer("char", MB)
            if not all[i] then
                break
            end
        end
        assert.is_true(#all >= 4 and #all <= 12)
        assert.is_true(J.heap.stats().footprint <= before + 16 * MB)
        all = nil -- luacheck: ignore
        for _ = 1, 100 do
            assert(J.buffer("char", 3 * MB))
        end
        assert(kept:resize(MB))
        kept:free()
        kept:free()
        collectgarbage()
        J.heap.limit(0)
        assert.is_true(J.heap.stats().footprint < before + 4 * MB)
    end)

    it("is not filled by dropped buffers where Lua's own memory leaves little room below the limit", function()
        if setting ~= "host" and setting ~= "command" then
            return
        end
        local live = {}
        for i = 1, 300000 do
            live[i] = { i }
        end
        collectgarbage()
        local before = J.heap.stats()
        J.heap.limit(before.footprint + math.floor(before.live / 2))
        for size = 16, 20 do
            for _ = 1, 4 * before.live / 2 ^ size do
                assert(J.buffer("char", 2 ^ size))
            end
        end
        J.heap.limit(0)
        assert.equal(before.refusals, J.heap.stats().refusals)
        assert.equal(300000, live[300000][1])
    end)

    it("refuses a buffer rather than run a collector that the script has stopped", function()
        if setting ~= "host" and setting ~= "command" then
            return
        end
        collectgarbage()
        J.heap.limit(J.heap.stats().footprint + 8 * 2 ^ 20)
        collectgarbage("stop")
        local buffer, err
        for _ = 1, 200 do
            buffer, err = J.buffer("char", 2 ^ 20)
            if not buffer then
                break
            end
        end
        local running = collectgarbage("isrunning")
        collectgarbage("restart")
        J.heap.limit(0)
        assert.same({ nil, J.ENOMEM, false }, { buffer, err, running })
    end)
end)
