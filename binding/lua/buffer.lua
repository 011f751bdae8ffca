-- Typed buffers: arrays of any C type in jemalloc's memory, with bounds that are checked.
--
-- A buffer is a cdata struct that owns its memory. A slice is a struct that names its parent and a range of it:
-- it follows the parent when that moves, and fails once the parent is freed. Indices begin at 0, as in the FFI's
-- arrays. A read or a write compiles to two comparisons and an access. The comparison is with `_near`, the length
-- as a 32-bit integer, because that is fastest; only indices from 2^31 on are compared with `_n`.

local ffi = require("ffi")

local J, native = ...

local type, error, tostring, tonumber, pairs, pcall = type, error, tostring, tonumber, pairs, pcall
local setmetatable, floor, min = setmetatable, math.floor, math.min
local typeof, metatype, sizeof, istype = ffi.typeof, ffi.metatype, ffi.sizeof, ffi.istype
local bor = require("bit").bor

local bad_argument, bad_self, fail = native.bad_argument, native.bad_self, native.fail
local check_size, check_range = native.check_size, native.check_range
local methods_of, far, description = native.methods_of, native.far, native.description
local ENOMEM = J.ENOMEM

local c_resize = native.bind("buffer_resize", "int (*)(void *, void *, int64_t, int64_t, bool)")
local c_release = native.bind("buffer_release", "void (*)(void *, void *)")
local c_held = native.bind("buffer_held", "double (*)(void *)")
local memory, collect, push_collector = native.record, native.collect, native.push_collector
local DUE, OVER_LIMIT, NO_MEMORY = native.BUFFER_DUE, native.BUFFER_OVER_LIMIT, native.BUFFER_NO_MEMORY

local MAX_BYTES = 2 ^ 53
local NEAR = 2 ^ 31 - 1

-- ---- Types: each element type has a struct for buffers and one for slices, made at its first use

local parents = setmetatable({}, { __mode = "k" }) -- slice -> its buffer, which it keeps alive

-- The collector calls this too, perhaps when memory is short, so it makes no object.
local function release(buffer)
    c_release(memory, buffer)
end

local function resize(buffer, n, zero, element_size)
    local bytes = n * element_size
    local result = c_resize(memory, buffer, n, bytes, zero)
    if result == OVER_LIMIT and collect() then -- dropped buffers may have made room
        result = c_resize(memory, buffer, n, bytes, zero)
    end
    if result == OVER_LIMIT or result == NO_MEMORY then
        return nil, ENOMEM
    elseif result == DUE then
        push_collector(native.memory)
    end
    return buffer
end

local function checked_count(fn, n, element_size)
    n = check_size(fn, "n", n, 0)
    if n * element_size > MAX_BYTES then
        local most = ("at most %d elements of %d bytes"):format(MAX_BYTES / element_size, element_size)
        bad_argument(fn, "n", most, n)
    end
    return n
end

local function slice_type_of(element, buffer_type)
    local struct = "struct { $ *_parent; int64_t _first; int64_t _n; int32_t _near; } /* %d */"
    local slice_type = typeof(struct:format(tonumber(element)), buffer_type)

    local function span(fn, slice)
        if not istype(slice_type, slice) then
            bad_self("slice", "s", fn, slice)
        end
        local parent = slice._parent
        if parent._freed then
            fail("the buffer that this slice is of was freed")
        elseif slice._first + slice._n > parent._n then
            local n = tonumber(parent._n)
            fail(("the slice reaches past its buffer, which was resized to %d elements"):format(n))
        end
        return parent._data + slice._first, tonumber(slice._n)
    end

    local methods = methods_of(element, span)

    function methods.slice(slice, first, last)
        local _, n = span("slice", slice)
        first, last = check_range("slice", first, last, n)
        local part = slice_type(slice._parent, slice._first + first, last - first, min(last - first, NEAR))
        parents[part] = parents[slice]
        return part
    end

    return metatype(slice_type, {
        __index = function(slice, i)
            if type(i) == "number" then
                if i >= 0 and i < slice._near and floor(i) == i then
                    local parent = slice._parent
                    local place = slice._first + i
                    if place < parent._n then
                        return parent._data[place]
                    end
                end
                local data, place = far("slice", span, slice, i)
                return data[place]
            end
            return methods[i] or fail(("a slice has no %s"):format(tostring(i)))
        end,
        __newindex = function(slice, i, value)
            if type(i) ~= "number" then
                fail(("a slice has no %s"):format(tostring(i)))
            end
            if i >= 0 and i < slice._near and floor(i) == i then
                local parent = slice._parent
                local place = slice._first + i
                if place < parent._n then
                    parent._data[place] = value
                    return
                end
            end
            local data, place = far("slice", span, slice, i)
            data[place] = value
        end,
        __len = methods.len,
        __tostring = description("slice", element, span),
    })
end

local types = {}         -- id of an element type -> the struct of its buffers
local element_sizes = {} -- id of an element type -> its size in bytes
local is_span = {}       -- id of a struct made here -> true

function native.is_buffer(value)
    return is_span[tonumber(typeof(value))] == true and tonumber(value) == nil
end

local function buffer_type_of(element)
    local size = sizeof(element)
    -- The comment makes each text unique, because busted, a test framework, caches ffi.typeof() by the text.
    local cdef = native.structs.Buffer:gsub("Element", "$"):gsub("ArenaBlock", "$")
    local buffer_type = typeof(("%s /* %d */"):format(cdef, tonumber(element)), element, native.block_type)
    local slice_type = slice_type_of(element, buffer_type)
    is_span[tonumber(buffer_type)], is_span[tonumber(slice_type)] = true, true

    local function span(fn, buffer)
        if not istype(buffer_type, buffer) then
            bad_self("buffer", "b", fn, buffer)
        elseif buffer._freed then
            fail("the buffer was freed")
        end
        return buffer._data, tonumber(buffer._n)
    end

    local methods = methods_of(element, span)

    -- Keeps the first elements; new ones are zero unless `zero` is false. After nil, errno nothing has changed.
    function methods.resize(buffer, n, zero)
        span("resize", buffer)
        return resize(buffer, checked_count("resize", n, size), zero ~= false, size)
    end

    -- Shares the elements from `first` to the one before `last`.
    function methods.slice(buffer, first, last)
        local _, n = span("slice", buffer)
        first, last = check_range("slice", first, last, n)
        local slice = slice_type(buffer, first, last - first, min(last - first, NEAR))
        parents[slice] = buffer
        return slice
    end

    -- A second call does nothing.
    function methods.free(buffer)
        if not istype(buffer_type, buffer) then
            bad_self("buffer", "b", "free", buffer)
        end
        release(buffer)
    end

    return metatype(buffer_type, {
        __index = function(buffer, i)
            if type(i) == "number" then
                if i >= 0 and i < buffer._near and floor(i) == i then
                    return buffer._data[i]
                end
                local data, place = far("buffer", span, buffer, i)
                return data[place]
            end
            return methods[i] or fail(("a buffer has no %s"):format(tostring(i)))
        end,
        __newindex = function(buffer, i, value)
            if type(i) ~= "number" then
                fail(("a buffer has no %s"):format(tostring(i)))
            end
            if i >= 0 and i < buffer._near and floor(i) == i then
                buffer._data[i] = value
                return
            end
            local data, place = far("buffer", span, buffer, i)
            data[place] = value
        end,
        __len = methods.len,
        __gc = release,
        __tostring = description("buffer", element, span),
    })
end

-- ---- J.buffer

-- text of an element type -> id of the type, because ffi.typeof() of a text is never compiled
local by_text = {}

-- The struct of the buffers of an element type, and the element's size in bytes.
local function element_type(ctype)
    local known = by_text[ctype]
    if known then
        return types[known], element_sizes[known]
    end
    local ok, element = pcall(typeof, ctype)
    if not ok and element == "not enough memory" then
        error(element, 0)
    elseif not ok or (type(ctype) ~= "string" and type(ctype) ~= "cdata") then
        bad_argument("buffer", "ctype", "C type", ctype)
    end
    local id = tonumber(element)
    local size = element_sizes[id]
    if not size then
        ok, size = pcall(sizeof, element)
        if not ok or not size or size == 0 or tostring(element):find("&") then
            bad_argument("buffer", "ctype", "C type of a fixed size", tostring(element))
        end
        types[id], element_sizes[id] = buffer_type_of(element), size
    end
    if type(ctype) == "string" then
        by_text[ctype] = id
    end
    return types[id], size
end

local option_names = { align = true, zero = true, arena = true }

local function create(ctype, n, options)
    local buffer_type, size = element_type(ctype)
    n = checked_count("buffer", n, size)
    local flags, block = 0, nil
    local zero = true
    if options ~= nil then
        if type(options) ~= "table" then
            bad_argument("buffer", "options", "table", options)
        end
        for key in pairs(options) do
            if not option_names[key] then
                bad_argument("buffer", "options", "align, zero or arena", key)
            end
        end
        zero = options.zero ~= false
        if options.arena ~= nil then
            block = native.arena_block("buffer", options.arena)
            flags = block.flags
        end
        if options.align ~= nil then
            flags = bor(flags, native.align_flag("buffer", "align", options.align))
        end
    end
    local buffer = buffer_type()
    buffer._flags = flags
    if block then
        buffer._arena = block
        native.block_hold(block)
        buffer._in_arena = true
    end
    local done, err = resize(buffer, n, zero, size)
    if not done then
        release(buffer)
        return nil, err
    end
    return buffer
end

J.buffer = setmetatable({}, {
    __call = function(_, ctype, n, options)
        return create(ctype, n, options)
    end,
})

-- A buffer with the contents of a string, as bytes or as elements of `ctype`.
function J.buffer.from(text, ctype)
    if type(text) ~= "string" then
        bad_argument("buffer.from", "text", "string", text)
    end
    ctype = ctype or "uint8_t"
    local _, size = element_type(ctype)
    if #text % size ~= 0 then
        bad_argument("buffer.from", "text", ("string of whole elements of %d bytes"):format(size), #text)
    end
    local buffer, err = create(ctype, #text / size, { zero = false })
    if not buffer then
        return nil, err
    end
    return buffer:copy(text)
end

-- Bytes in all buffers of this state, including dropped ones that are not collected yet.
function J.buffer.held()
    return c_held(memory)
end
