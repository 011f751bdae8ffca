-- The mallctl namespace: reading, writing and acting by name, the table form, and that the table of names is
-- complete against the manual and against the jemalloc that is bound.

local ffi = require("ffi")
local J = require("jemalloc")
local traces = require("traces")
local names = require("names_table")

describe("mallctl_read", function()
    it("gives numbers, strings and booleans", function()
        assert.equal("number", type(J.mallctl_read("epoch")))
        assert.truthy(J.mallctl_read("version"):find("^%d+%.%d+%.%d+"))
        assert.equal("boolean", type(J.mallctl_read("opt.tcache")))
        assert.equal("number", type(J.mallctl_read("arena.0.dirty_decay_ms")))
        assert.equal(4096, J.mallctl_read("arenas.page"))
        assert.equal(16, J.mallctl_read("arenas.quantum"))
    end)

    it("gives a number above 2^53 as 64-bit cdata", function()
        local p = J.mallctl_read("arena.0.retain_grow_limit")
        assert.truthy(p)
        if type(p) ~= "number" then
            assert.is_true(ffi.istype("size_t", p))
        end
    end)

    it("gives nil and the errno", function()
        assert.same({ nil, J.ENOENT }, { J.mallctl_read("no.such") })
        assert.same({ nil, J.ENOENT }, { J.mallctl_read("") })
        assert.same({ nil, J.ENOENT }, { J.mallctl_read("arena") })
        assert.same({ nil, J.ENOENT }, { J.mallctl_read("arena.5000.dss") })
        assert.same({ nil, J.EPERM }, { J.mallctl_read("tcache.flush") })
        for _, name in ipairs({ "EINVAL", "EAGAIN", "EFAULT", "ENOMEM" }) do
            assert.equal("number", type(J[name]))
        end
        assert.has_error(function() J.mallctl_read(5) end)
        assert.has_error(function() J.mallctl_read() end)
    end)

    it("acts where the name is an action", function()
        assert.is_true(J.mallctl_read("arena.0.purge"))
        assert.is_true(J.mallctl_write("arena.0.decay"))
        assert.is_true(J.mallctl_read("thread.tcache.flush"))
    end)

    it("names arenas, and reads the limits of a tcache's bins, where jemalloc is 5.3.1", function()
        if J.mallctl_read("approximate_stats.active") == nil then
            assert.same({ nil, J.ENOENT }, { J.mallctl_read("arena.0.name") })
            return
        end
        local arena = J.mallctl_read("arenas.create")
        local name = ("arena.%d.name"):format(arena)
        assert.is_true(J.mallctl_write(name, "tenant 7"))
        assert.equal("tenant 7", J.mallctl_read(name))
        assert.is_true(J.mallctl_write(name, ("x"):rep(100)))
        assert.equal(("x"):rep(31), J.mallctl_read(name))
        assert.equal("string", type(J.mallctl_read("arena.0.name")))
        assert.equal("string", type(select(2, J.mallctl_write(name, 5))))
        assert.is_true(J.mallctl_read(("arena.%d.destroy"):format(arena)))

        assert.is_true(J.mallctl_write("thread.tcache.ncached_max.write", "64-64:6"))
        assert.equal(6, J.mallctl_read("thread.tcache.ncached_max.read_sizeclass", 64))
        assert.same({ nil, J.EINVAL }, { J.mallctl_write("thread.tcache.ncached_max.write", "nonsense") })
    end)

    it("looks up an address and makes arenas", function()
        local arena = J.mallctl_read("arenas.create")
        local p = J.mallocx(100, J.bor(J.MALLOCX_ARENA(arena), J.MALLOCX_TCACHE_NONE()))
        assert.equal(arena, J.mallctl_read("arenas.lookup", p))
        assert.same({ nil, J.EINVAL }, { J.mallctl_read("arenas.lookup") })
        assert.same({ nil, J.EINVAL }, { J.mallctl_read("arenas.lookup", ffi.cast("void *", 0)) })
        assert.is_nil((J.mallctl_read("arenas.lookup", ffi.typeof("void *[1]"))))
        J.dallocx(p, J.MALLOCX_TCACHE_NONE())
        assert.is_true(J.mallctl_read(("arena.%d.destroy"):format(arena)))
    end)

    it("compiles", function()
        traces.compiles(function(n)
            local sum = 0
            for _ = 1, n do
                sum = sum + J.mallctl_read("arenas.page") + J.mallctl_read("stats.allocated")
            end
            return sum
        end)
    end)
end)

describe("mallctl_write", function()
    it("writes numbers, booleans and strings", function()
        assert.is_true(J.mallctl_write("arena.0.dirty_decay_ms", 1234))
        assert.equal(1234, J.mallctl_read("arena.0.dirty_decay_ms"))
        assert.is_true(J.mallctl_write("arena.0.dirty_decay_ms", -1LL))
        assert.equal(-1, J.mallctl_read("arena.0.dirty_decay_ms"))
        assert.is_true(J.mallctl_write("arena.0.dirty_decay_ms", 10000))
        assert.is_true(J.mallctl_write("thread.tcache.enabled", true))
        assert.is_true(J.mallctl_write("arena.0.dss", "secondary"))
        assert.equal("secondary", J.mallctl_read("arena.0.dss"))
        assert.is_true(J.mallctl_write("epoch", 1))
    end)

    it("refuses what may not be written, and says what a value must be", function()
        assert.same({ nil, J.EPERM }, { J.mallctl_write("version", 1) })
        assert.same({ nil, J.ENOENT }, { J.mallctl_write("no.such", 1) })
        assert.same({ nil, J.EINVAL }, { J.mallctl_write("arena.0.dss", "nonsense") })
        local ok, message = J.mallctl_write("arena.0.dirty_decay_ms", "soon")
        assert.is_nil(ok)
        assert.equal("arena.0.dirty_decay_ms takes an integer, got 'soon'", message)
        for _, value in ipairs({ "x", 1.5, {}, true, 0 / 0 }) do
            assert.equal("string", type(select(2, J.mallctl_write("arena.0.dirty_decay_ms", value))))
        end
        assert.equal("string", type(select(2, J.mallctl_write("thread.tcache.enabled", 1))))
        assert.equal("string", type(select(2, J.mallctl_write("arena.0.dss", 1))))
        assert.equal("string", type(select(2, J.mallctl_write("arena.0.dirty_decay_ms"))))
    end)
end)

describe("tcaches by name", function()
    it("are made, flushed and destroyed, and no others are touched", function()
        local id = J.mallctl_read("tcache.create")
        assert.is_true(J.mallctl_write("tcache.flush", id))
        assert.is_true(J.mallctl_write("tcache.destroy", id))
        assert.same({ nil, J.EINVAL }, { J.mallctl_write("tcache.destroy", id) })
        assert.same({ nil, J.EINVAL }, { J.mallctl_write("tcache.flush", 4000) })
        assert.same({ nil, J.EINVAL }, { J.mallctl_write("tcache.destroy", 2 ^ 31) })
    end)
end)

describe("names of jemalloc 3.5", function()
    it("are answered by their successors", function()
        assert.is_true(J.mallctl_write("arenas.purge", 0))
        assert.is_true(J.mallctl_write("arenas.purge"))
        assert.is_true(J.mallctl_read("arenas.purge"))
        local before = J.mallctl_read("arenas.narenas")
        assert.is_true(J.mallctl_read("arenas.extend") >= before - 1)
        assert.equal(J.mallctl_read("arenas.lextent.0.size"), J.mallctl_read("arenas.lrun.0.size"))
        assert.equal(J.mallctl_read("arenas.bin.3.slab_size"), J.mallctl_read("arenas.bin.3.run_size"))
        assert.equal(J.mallctl_read("opt.tcache_max"), 2 ^ J.mallctl_read("opt.lg_tcache_max"))
        assert.is_true(J.mallctl_read("arenas.initialized")[0])
        assert.equal("number", type(J.mallctl_read("stats.arenas.0.bins.0.curruns")))
    end)

    it("all have a successor that the table knows", function()
        for _, successor in pairs(names.successors) do
            assert.truthy(names.all[successor], successor)
        end
    end)
end)

describe("J.ctl", function()
    it("reads, writes and acts", function()
        assert.equal("number", type(J.ctl.stats.allocated))
        J.ctl.arena[0].dirty_decay_ms = 1000
        assert.equal(1000, J.ctl.arena[0].dirty_decay_ms)
        J.ctl.arena[0].dirty_decay_ms = 10000
        assert.is_true(J.ctl.arena[0].purge())
        assert.equal("number", type(J.ctl.stats.arenas[0].bins[1].nmalloc))
    end)

    it("raises an error for names that do not exist and values that do not fit", function()
        assert.has_error(function() return J.ctl.nope end, "jemalloc's mallctl namespace has no nope")
        assert.has_error(function() return J.ctl.arena[0].nope end)
        assert.has_error(function() return J.ctl.arena[-1].dss end)
        assert.has_error(function() J.ctl.version = "6" end)
        assert.has_error(function() J.ctl.arena = 1 end)
        assert.has_error(function() J.ctl.arena[0].dirty_decay_ms = "soon" end)
    end)
end)

describe("malloc_stats_print", function()
    it("gives its text to a function, a file, or as the answer", function()
        local text = J.malloc_stats_print(true, "J")
        assert.truthy(text:find('"jemalloc"', 1, true))
        local parts = {}
        assert.is_true(J.malloc_stats_print(function(part) parts[#parts + 1] = part end))
        assert.truthy(table.concat(parts):find("Begin jemalloc statistics", 1, true))
        local file = io.tmpfile()
        J.malloc_stats_print(file, "mdablxeh")
        assert.is_true(file:seek("end") > 100)
        file:close()
        assert.is_true(J.malloc_stats_print(nil, "gmdablxeh"))
        assert.has_error(function() J.malloc_stats_print(5) end)
        assert.has_error(function() J.malloc_stats_print(true, 5) end)
        assert.has_error(function() J.malloc_stats_print(function() error("stop") end) end)
    end)
end)

describe("the table of names", function()
    it("agrees with the manual", function()
        local manual = io.popen("zcat /usr/share/man/man3/jemalloc.3.gz 2>/dev/null"):read("*a")
        if manual == "" then
            pending("no manual: install libjemalloc-dev")
            return
        end
        manual = manual:gsub("\\f[BIR]", ""):gsub("\\&", ""):gsub("\\%-", "-")
        -- A size goes in there, and is not kept: the manual calls that a write.
        local writes = { ["thread.tcache.ncached_max.read_sizeclass"] = true }
        local count = 0
        for name, ctype, access in manual:gmatch("\n([%l_][%w_.<>]*) %(([^)\n]+)%) ([r%-][w%-][^\n]*)") do
            local entry = names.all[name]
            assert.truthy(entry, "the table lacks " .. name)
            local input = entry.input and not writes[name]
            assert.equal(ctype, entry.type .. (input and ", " .. entry.input or ""), name)
            if access:find("^r%- or %-w") then
                access = "rw"
            end
            assert.equal(access:sub(1, 2), writes[name] and "rw" or entry.access, name)
            count = count + 1
        end
        assert.is_true(count > 150, "only " .. count .. " names found in the manual")
    end)

    it("has types that every readable name can be read by", function()
        local read = 0
        for generic, entry in pairs(names.all) do
            if entry.access:sub(1, 1) == "r" and not entry.input and generic ~= "tcache.create" then
                local name = generic:gsub("<[ij]>", "0")
                local value, err = J.mallctl_read(name)
                if value == nil and err ~= nil then
                    -- A name that needs a feature this jemalloc was built without.
                    assert.equal(J.ENOENT, err, name)
                else
                    read = read + 1
                end
            end
        end
        assert.is_true(read > 200, "only " .. read .. " names were read")
    end)

    it("lacks no name that jemalloc's source has", function()
        local folder = assert(os.getenv("JEMALLOC_LUA_JEMALLOC_SOURCE"), "JEMALLOC_LUA_JEMALLOC_SOURCE is not set")
        local in_source = names.in_source(folder)
        assert.is_true(#in_source > 380, "only " .. #in_source .. " names were found in ctl.c")
        for _, name in ipairs(in_source) do
            assert.truthy(names.all[name], "the table lacks " .. name)
        end
    end)
end)
