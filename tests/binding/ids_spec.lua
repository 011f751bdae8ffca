-- Arenas and tcaches by their numbers: no cache that outlives an arena holds its blocks, and what belongs to a heap
-- or to another state is not to be had by its number.

local ffi = require("ffi")
local J = require("jemalloc")

local setting = os.getenv("JEMALLOC_LUA_SETTING") or "stock"
local ours = setting == "host" or setting == "command"

local function fails(pattern, f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    assert.truthy(message:find(pattern, 1, true), message)
end

-- The addresses that `times` allocations answer with, freed again.
local function addresses(times, allocate)
    local all, set = {}, {}
    for i = 1, times do
        all[i] = assert(allocate())
        set[tonumber(ffi.cast("uintptr_t", all[i]))] = true
    end
    for i = 1, times do
        J.dallocx(all[i], J.MALLOCX_TCACHE_NONE())
    end
    return set
end

local function share(one, other)
    for address in pairs(one) do
        if other[address] then
            return true
        end
    end
    return false
end

-- Every way in which a block can be freed without a tcache flag.
local frees = {
    dallocx = J.dallocx,
    sdallocx = function(p) J.sdallocx(p, 64) end,
    rallocx = function(p) J.dallocx(J.rallocx(p, 4096)) end,
    free = function(p) assert(J.bind_standard_api()) J.free(p) end,
    realloc = function(p) assert(J.bind_standard_api()) J.free(J.realloc(p, 4096)) end,
    gc = function(p) ffi.gc(p, J.dallocx) end,
}

describe("the thread's cache", function()
    for name, free in pairs(frees) do
        it("holds no block of an arena that " .. name .. " has freed", function()
            local arena = J.arena()
            local of_arena = {}
            for _ = 1, 40 do
                local p = arena:mallocx(64)
                of_arena[tonumber(ffi.cast("uintptr_t", p))] = true
                free(p)
            end
            collectgarbage()
            collectgarbage()
            assert.is_false(share(of_arena, addresses(100, function() return J.mallocx(64) end)))
        end)
    end

    it("is not filled from an arena that an allocation names without a tcache", function()
        local arena = J.arena()
        local flags = J.MALLOCX_ARENA(arena)
        J.dallocx(J.mallocx(64, flags))
        for p in pairs(addresses(100, function() return J.mallocx(64) end)) do
            assert.not_equal(arena:index(), J.mallctl_read("arenas.lookup", ffi.cast("void *", p)))
        end
    end)

    it("is not bound to an arena that an object releases", function()
        local arena = J.arena()
        assert.same({ nil, J.EPERM }, { J.mallctl_write("thread.arena", arena:index()) })
    end)
end)

describe("an arena by its number", function()
    it("is not destroyed while an object has it, nor emptied while buffers lie in it", function()
        local arena = J.arena()
        local name = "arena." .. arena:index()
        local p = arena:mallocx(64)
        assert.is_true(J.mallctl_read(name .. ".reset"))
        assert.not_nil(p)
        local b = arena:buffer("int", 1000)
        assert.same({ nil, J.EPERM }, { J.mallctl_read(name .. ".reset") })
        assert.same({ nil, J.EPERM }, { J.mallctl_read(name .. ".destroy") })
        fails("Operation not permitted", J.ctl.arena[arena:index()].destroy)
        assert.same({ nil, J.EPERM }, { J.mallctl_write(name .. ".extent_hooks", ffi.new("void *")) })
        b[999] = 1
    end)

    it("that a script has made is the script's to empty and to destroy", function()
        local index = J.mallctl_read("arenas.create")
        local tcache = J.tcache()
        local flags = J.bor(J.MALLOCX_ARENA(index), J.MALLOCX_TCACHE(tcache))
        for _ = 1, 3 do
            for _ = 1, 40 do
                J.dallocx(J.mallocx(64, flags), tcache:flags())
                J.dallocx(J.mallocx(64, J.MALLOCX_ARENA(index)))
            end
            assert.is_true(J.mallctl_read(("arena.%d.reset"):format(index)))
        end
        assert.is_true(J.mallctl_read(("arena.%d.destroy"):format(index)))
        J.dallocx(J.mallocx(64, tcache:flags()), tcache:flags())
    end)

    it("is refused where it is a heap's own", function()
        if not ours then
            return
        end
        local kept = {}
        for i = 1, 2e5 do -- the heap has an arena of its own by then
            kept[i] = { i }
        end
        local index = J.heap.stats().arena
        local name = "arena." .. index
        fails("'flags' to 'mallocx' (an arena that belongs to no heap", J.mallocx, 64, J.MALLOCX_ARENA(index))
        fails("'flags' to 'mallocx'", J.mallocx, 64, J.bor(J.MALLOCX_ARENA(index), J.MALLOCX_TCACHE_NONE()))
        for _, action in ipairs({ "reset", "destroy" }) do
            assert.same({ nil, J.EPERM }, { J.mallctl_read(("%s.%s"):format(name, action)) })
        end
        assert.same({ nil, J.EPERM }, { J.mallctl_write("thread.arena", index) })
        assert.equal(2e5, #kept)
    end)
end)

describe("a tcache by its number", function()
    it("is refused where this state has not made it", function()
        fails("'flags' to 'mallocx' (a tcache that this state has made", J.mallocx, 64, J.MALLOCX_TCACHE(4000))
        fails("'flags' to 'dallocx'", J.dallocx, J.mallocx(64), J.MALLOCX_TCACHE(4000))
        local id = J.mallctl_read("tcache.create")
        J.dallocx(J.mallocx(64, J.MALLOCX_TCACHE(id)), J.MALLOCX_TCACHE(id))
        assert.is_true(J.mallctl_write("tcache.destroy", id))
        fails("'flags' to 'mallocx'", J.mallocx, 64, J.MALLOCX_TCACHE(id))
    end)

    it("is flushed, but not destroyed while an object has it", function()
        local tcache, arena = J.tcache(), J.arena()
        local of_arena = bit.rshift(bit.band(arena:flags(), 0xfff00), 8) - 2
        for _, id in ipairs({ tcache:id(), of_arena }) do
            assert.is_true(J.mallctl_write("tcache.flush", id))
            assert.same({ nil, J.EPERM }, { J.mallctl_write("tcache.destroy", id) })
        end
        arena:dallocx(arena:mallocx(64))
        tcache:flush()
    end)
end)
