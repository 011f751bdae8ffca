-- Calls of the module `jemalloc` that a careless or a hostile script may make, chosen by the fuzzer's bytes:
-- choose(n), text() and more() read them. See module.cpp.
--
-- What a call may be given is anything at all, with three exceptions that no check can catch and the manual
-- tells of: a pointer that jemalloc did not hand out or that was freed, a size or alignment for sdallocx that
-- is not the block's, and the id of a tcache that is no more. Names that are there to break things
-- (arena.<i>.destroy, extent_hooks, prof.dump to a file) are not written either.

local choose, text, more, seeded_fault = ...
local ffi = require("ffi")
local J = require("jemalloc")

local trace = os.getenv("JEMALLOC_LUA_FUZZ_TRACE") -- says on stderr which call comes next

local blocks -- {pointer, size, flags to free it with, arena or nil}
local arenas, tcaches, buffers, slices

local function pick(list)
    return list[choose(#list) + 1]
end

if seeded_fault then -- a check that is missing
    local address = ffi.typeof("const char *")
    local size_of = J.malloc_usable_size
    function J.malloc_usable_size(ptr)
        return type(ptr) == "number" and ffi.cast(address, ptr)[0] or size_of(ptr)
    end
end

-- ---- Values

local int64, uint64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local constants = {
    false, true, 0, 1, 2, 7, 16, 64, 100, 4096, 5000, -1, -4096, 0.5, 1e300, -1e300, 1 / 0, -1 / 0, 0 / 0,
    2 ^ 31 - 1, 2 ^ 31, 2 ^ 32, 2 ^ 52, 2 ^ 53, 2 ^ 53 + 2, 2 ^ 62, 2 ^ 63, 2 ^ 64,
    "", "1", "x", "int", "void", "char[?]", "struct { int a; }", "0x10", ("y"):rep(100), "\0",
    print, function() error("mine") end, coroutine.create(print), io.stdout, newproxy(true),
    int64(1), int64(-1), uint64(-1), int64(2) ^ 40, ffi.new("int32_t", 3), ffi.new("char[8]"),
        ffi.new("double[1]"),
    ffi.new("struct { int a; }"), ffi.typeof("int"), ffi.typeof("char[?]"), ffi.typeof("struct { void *p; }"),
    ffi.typeof("int *"), ffi.typeof("void *[1]"), ffi.typeof(J.buffer("int", 1)),
    ffi.new("void *[?]", 0), ffi.new("struct { void *p; }"),
    ffi.cast("void *", 0), ffi.new("void *[1]"), 1i, J, J.buffer, J.ctl,
}

local function value()
    local kind = choose(8)
    if kind == 0 then
        return nil
    elseif kind == 1 then
        return text()
    elseif kind == 2 then
        return pick({ {}, { align = 64 }, { zero = false }, { arena = pick(arenas) }, { align = value() },
            { arena = value() }, { [value() or 1] = 1 }, { dirty_decay_ms = value() }, { tcache = false },
            { dss = value() }, { retain_grow_limit = value() }, setmetatable({}, { __index = error }) })
    elseif kind == 3 then
        return pick(buffers) or pick(slices) or pick(arenas) or pick(tcaches)
    end
    return pick(constants)
end

-- From sizes that are quick to use, and those that no one has.
local function size()
    return pick({ 1, 8, 100, 1000, 4096, 20000, 2 ^ 18, 2 ^ 49, 2 ^ 53, choose(300), value() })
end

-- Small ones, so that a fill does not take all the time.
local function count()
    return pick({ 0, 1, 3, 10, 100, choose(200), 2 ^ 50, value() })
end

-- Flags that are valid, or that are no flags; numbers in between may name a tcache that does not exist.
local function flags()
    return pick({
        false, J.MALLOCX_ZERO(), J.MALLOCX_TCACHE_NONE(), J.MALLOCX_LG_ALIGN(choose(20)),
            J.MALLOCX_LG_ALIGN(choose(63)),
        J.bor(J.MALLOCX_ZERO(), J.MALLOCX_LG_ALIGN(12)), J.bor(J.MALLOCX_ARENA(choose(4094)), 0x100),
            2 ^ 40, 0.5, -2 ^ 33,
        0 / 0, "1", {}, print, int64(1), ffi.new("char[8]"),
    }) or nil
end

local function keep(list, made, ...)
    if made ~= nil then
        list[#list + 1] = made
    end
    return made, ...
end

local function keep_block(ptr, bytes, free_flags, arena)
    if ptr ~= nil then
        blocks[#blocks + 1] = { ptr, bytes, free_flags, arena }
    end
end

-- Takes a block out of the list, for a call that frees it if it succeeds.
local function with_block(call)
    if #blocks == 0 then
        return
    end
    local at = choose(#blocks) + 1
    local block = table.remove(blocks, at)
    local ok, gone = pcall(call, block)
    if not ok or not gone then
        blocks[#blocks + 1] = block
    end
end

-- No pointers but those of jemalloc's: what value() gives are none, or NULL.
local function some_call(f)
    return f(value(), value(), value(), value())
end

local names = { "version", "epoch", "background_thread", "thread.arena", "thread.allocated",
    "thread.tcache.flush",
    "thread.tcache.enabled", "thread.peak.reset", "config.debug", "opt.narenas", "opt.dss",
    "opt.lg_tcache_max",
    "arena.0.purge", "arena.0.decay", "arena.4096.purge", "arena.1.dirty_decay_ms", "arena.0.muzzy_decay_ms",
    "arena.0.initialized", "arena.99999.purge", "arena.-1.purge", "arena.0.retain_grow_limit",
    "arenas.narenas",
    "arenas.bin.0.size", "arenas.bin.99.size", "arenas.lextent.3.size", "arenas.lrun.0.size",
    "arenas.initialized",
    "arenas.purge", "arenas.dirty_decay_ms", "arenas.lookup", "stats.allocated", "stats.arenas.0.pactive",
    "stats.arenas.0.bins.0.nmalloc", "stats.arenas.9999.pactive", "stats.arenas.0.lruns.1.nmalloc",
    "stats.mutexes.ctl.num_ops",
    "prof.active", "prof.stats.bins.0.live", "tcache.flush", "tcache.destroy", "", ".", "arena", "arena.",
    "arena.0",
    "no.such.name", ("arena."):rep(500), "version\0x" }

local function some_name()
    return choose(4) == 0 and value() or pick(names)
end

-- A way through J.ctl.
local function walk(node, write)
    for _ = 1, choose(6) do
        local key = pick({ "arena", "arenas", "stats", "bins", "bin", "opt", "thread", "tcache", "version",
            "epoch", "narenas",
            "dirty_decay_ms", "purge", "decay", "mutexes", "ctl", "size", 0, 1, 4096, value() })
        if type(node) ~= "table" then
            return node
        elseif write and choose(3) == 0 then
            node[key] = value()
        else
            node = node[key]
        end
    end
    return type(node) == "function" and node() or tostring(node)
end

local function index()
    return pick({ 0, 1, 5, 50, -1, 2 ^ 31, choose(300), value() })
end

-- ---- Calls

local buffer_calls = {
    function(b) return b[index()] end,
    function(b) b[index()] = value() end,
    function(b) return #b, b:len(), b:bytes(), tostring(b), b:ptr() end,
    function(b) return b:fill(value(), index(), index()) end,
    function(b) return b:copy(pick(buffers) or pick(slices) or text(), count(), pick({ false,
        count() }) or nil) end,
    function(b) return b:copy(text(), index(), value()) end,
    function(b) return b:tostring(index(), index()) end,
    function(b) return keep(slices, b:slice(index(), index())) end,
    function(b) for _, each in b:ipairs() do if each == 99 then break end end end,
    function(b) return b[value()] end,
    function(b) return pcall(b.slice, value(), value(), value()) end,
    function(b) return pcall(b.fill, value(), value()) end,
    function(b) return pcall(b.ipairs, value()) end,
    function(b) return b == value(), b .. "" end,
}

-- All but release(), which would free blocks that `blocks` still lists.
local methods = { "len", "bytes", "ptr", "fill", "copy", "tostring", "ipairs", "resize", "slice", "free",
    "index", "flags", "mallocx", "dallocx", "buffer", "purge", "decay", "stats", "id", "flush" }

local ctypes = { "int", "char", "double", "uint8_t", "void *", "struct { char a[3]; }", "int[2]",
    "int64_t", "bool",
    ffi.typeof("float"), "const int", "int &", "void", "char[?]", "no such type" }

local calls = {
    function() keep_block(J.mallocx(size(), flags()), 0, nil) end,
    function() local n = choose(5000) + 1; keep_block(J.mallocx(n), n, nil) end,
    function() J.nallocx(size(), flags()) end,
    function() J.mallocx(value(), flags()) end,
    function() J.nallocx(value(), flags()) end,
    function() J.rallocx(value(), value(), flags()) end,
    function() J.xallocx(value(), value(), value(), flags()) end,
    function() J.sallocx(value(), flags()) end,
    function() J.dallocx(value(), flags()) end,
    function() J.sdallocx(value(), value(), flags()) end,
    function() some_call(J.malloc_usable_size) end,
    function() some_call(J.MALLOCX_LG_ALIGN) end,
    function() some_call(J.MALLOCX_ALIGN) end,
    function() some_call(J.MALLOCX_ARENA) end,
    function() some_call(J.MALLOCX_TCACHE) end,
    function() some_call(J.bor) end,
    function() with_block(function(block)
        local moved = J.rallocx(block[1], size(), flags())
        keep_block(moved, 0, nil, block[4])
        return moved
    end) end,
    function() with_block(function(block) J.xallocx(block[1], size(), size(), flags()) end) end,
    function() with_block(function(block) return J.sallocx(block[1], flags()) == nil end) end,
    function() with_block(function(block) J.dallocx(block[1], block[3]) return true end) end,
    function() with_block(function(block) J.dallocx(block[1], flags()) return true end) end,
    function() with_block(function(block)
        if block[2] > 0 then
            J.sdallocx(block[1], block[2])
            return true
        end
    end) end,
    function() with_block(function(block) return J.malloc_usable_size(block[1]) == nil end) end,
    function() keep(arenas, J.arena(pick({ {}, { dirty_decay_ms = 0 }, { tcache = false }, value() }))) end,
    function() keep(tcaches, J.tcache()) end,
    function() local t = pick(tcaches); t:flush(); t:id(); keep_block(J.mallocx(count(), t:flags()), 0,
        nil) end,
    function() local t = pick(tcaches); t:release(); tostring(t); t[value()] = value() end,
    function() local a = pick(arenas); keep_block(a:mallocx(size(), flags()), 0, a:flags(), a) end,
    function() local a = pick(arenas); keep(buffers, a:buffer(pick(ctypes), count(), pick({ {},
        value() }))) end,
    function() local a = pick(arenas); a:purge(); a:decay(); a:stats(); a:index(); tostring(a) end,
    function() with_block(function(block) pick(arenas):dallocx(block[1]) return true end) end,
    function() pick(arenas):dallocx(value()) end,
    function()
        local a = pick(arenas)
        for i = #blocks, 1, -1 do
            if blocks[i][4] == a then
                table.remove(blocks, i)
            end
        end
        a:release()
    end,
    function() keep(buffers, J.buffer(pick(ctypes), count(), pick({ false, value() }) or nil)) end,
    function() keep(buffers, J.buffer("int", choose(100))) end,
    function() keep(buffers, J.buffer.from(text(), pick(ctypes))) end,
    function() some_call(J.buffer) end,
    function() some_call(J.buffer.from) end,
    function() pick(buffer_calls)(pick(buffers)) end,
    function() pick(buffer_calls)(pick(buffers)) end,
    function() pick(buffer_calls)(pick(slices)) end,
    function() pick(buffers):resize(count(), pick({ false, true, value() })) end,
    function() pick(buffers):free() end,
    function() -- a method with a dot, on anything
        local object = pick({ pick(buffers) or 0, pick(slices) or 0, pick(arenas) or 0, pick(tcaches) or 0 })
        object[pick(methods)](value(), value(), value())
    end,
    function() J.mallctl_read(some_name(), pick({ false, value() }) or nil) end,
    function() J.mallctl_write(pick(names), value()) end,
    function() some_call(J.mallctl_read) end,
    function() walk(J.ctl, choose(2) == 0) end,
    function() J.malloc_stats_print(choose(8) == 0 or value() or true, pick({ "Jmdablxeh", "gmdablxehJ",
        text() })) end,
    function() J.heap.stats() J.heap.trim() J.heap.limit() end,
    function() -- not below what the script needs: LuaJIT does not survive every refusal
        local limit = pick({ 0, 64 * 2 ^ 20, 0, value() })
        if type(limit) ~= "number" or not (limit > 0 and limit < 2 ^ 26) then
            J.heap.limit(limit)
            J.heap.limit(2 ^ 28) -- AddressSanitizer has no memory for what describes a buffer of a terabyte
        end
    end,
    function() collectgarbage(pick({ "collect", "step" })) end,
    function() J.bind_standard_api() end,
    function() keep_block(J.malloc(size()), 0, nil) end,
    function() keep_block(J.calloc(pick({ 1, 2, 2 ^ 40, value() }), size()), 0, nil) end,
    function() keep_block(J.aligned_alloc(size(), size()), 0, nil) end,
    function()
        local out = pick({ ffi.new("void *[1]"), value() })
        if J.posix_memalign(out, size(), size()) then
            keep_block(out[0], 0, nil)
        end
    end,
    function() with_block(function(block)
        local moved = J.realloc(block[1], size())
        keep_block(moved, 0, nil, block[4])
        return moved
    end) end,
    function() with_block(function(block) J.free(block[1]) return true end) end,
    function() some_call(J.realloc) end,
    function() some_call(J.free) end,
}

return function()
    blocks, arenas, tcaches, buffers, slices = {}, {}, {}, {}, {}
    for _ = 1, 200 do
        if not more() then
            break
        end
        local call = pick(calls)
        if trace then
            io.stderr:write("module.lua:", debug.getinfo(call, "S").linedefined, "\n")
        end
        pcall(call)
    end
    for i = 1, #blocks do
        J.dallocx(blocks[i][1])
    end
    blocks, arenas, tcaches, buffers, slices = {}, {}, {}, {}, {}
    collectgarbage()
end
