-- Typed buffers: arrays of any C type in jemalloc's memory, with bounds that are checked.
--
-- A buffer is a cdata struct that owns its memory; a slice is one that names its parent and a range of it,
-- so that it follows the parent when that moves and fails when it is freed. Indices begin at 0, as in the
-- FFI's arrays. Reads and writes are two comparisons and an access, and compile. They compare with `_near`,
-- the length as a 32-bit integer, which is the fastest; indices past 2^31 take a second look, at `_n`.

local ffi = require("ffi")

local J, native = ...

local type, error, tostring, tonumber, pairs, pcall = type, error, tostring, tonumber, pairs, pcall
local setmetatable, floor, min = setmetatable, math.floor, math.min
local typeof, metatype, sizeof = ffi.typeof, ffi.metatype, ffi.sizeof
local copy_bytes, fill_bytes, ffi_string = ffi.copy, ffi.fill, ffi.string
local bor = require("bit").bor

local bad_argument, check_size, is_pointer = native.bad_argument, native.check_size, native.is_pointer
local ENOMEM = J.ENOMEM

local c_resize = native.bind("buffer_resize", "int (*)(void *, void *, int64_t, int64_t, bool)")
local c_release = native.bind("buffer_release", "void (*)(void *, void *)")
local c_held = native.bind("buffer_held", "double (*)(void *)")
local memory, collect, push_collector = native.memory, native.collect, native.push_collector
local DUE, OVER_LIMIT, NO_MEMORY = native.BUFFER_DUE, native.BUFFER_OVER_LIMIT, native.BUFFER_NO_MEMORY
local c_memmove = native.bind("memmove", "void *(*)(void *, const void *, int64_t)")

local MAX_BYTES = 2 ^ 53

-- ---- Elements

local NEAR = 2 ^ 31 - 1

local function out_of_bounds(what, i, n)
    error(("%s: index %s is out of bounds: the length is %d"):format(what, tostring(i), tonumber(n)), 3)
end

-- The memory of a buffer or slice and its length in elements, checked to be there.
local function span_of_buffer(buffer)
    if buffer._freed then
        error("the buffer was freed", 3)
    end
    return buffer._data, tonumber(buffer._n)
end

local function span_of_slice(slice)
    local parent = slice._parent
    if parent._freed then
        error("the buffer that this slice is of was freed", 3)
    elseif slice._first + slice._n > parent._n then
        error(("the slice reaches past its buffer, which was resized to %d elements"):format(
            tonumber(parent._n)), 3)
    end
    return parent._data + slice._first, tonumber(slice._n)
end

-- The address of element i and its index from there, for indices that are not near; errs out of bounds.
local function far(what, span, b, i)
    local data, n = span(b)
    if not (i >= 0 and i < n and floor(i) == i) then
        error(("%s: index %s is out of bounds: the length is %d"):format(what, tostring(i), n), 3)
    end
    return data, i
end

-- ---- Methods that buffers and slices share; `span` is one of the two above

local parents = setmetatable({}, { __mode = "k" }) -- slice -> its buffer, which it keeps alive

local function check_range(fn, first, last, n)
    first = first == nil and 0 or first
    last = last == nil and n or last
    if type(first) ~= "number" or floor(first) ~= first or first < 0 or first > n then
        out_of_bounds(fn, first, n)
    elseif type(last) ~= "number" or floor(last) ~= last or last < first or last > n then
        out_of_bounds(fn, last, n)
    end
    return first, last
end

local function iterate(state, i)
    i = i + 1
    if i < #state then
        return i, state[i]
    end
end

local function methods_of(element, span)
    local methods = {}
    local size = sizeof(element)

    function methods.len(b)
        local _, n = span(b)
        return n
    end

    function methods.bytes(b)
        local _, n = span(b)
        return n * size
    end

    -- The address of the first element. It does not keep the buffer alive, and a resize moves it.
    function methods.ptr(b)
        return (span(b))
    end

    function methods.fill(b, value, first, last)
        local data, n = span(b)
        first, last = check_range("fill", first, last, n)
        if size == 1 and type(value) == "number" then
            fill_bytes(data + first, last - first, value)
            return b
        end
        for i = first, last - 1 do
            data[i] = value
        end
        return b
    end

    -- From a string, a buffer or a slice, or from a pointer with the number of elements.
    function methods.copy(b, source, at, count)
        local data, n = span(b)
        at = check_range("copy", at, nil, n)
        local from, bytes
        if type(source) == "string" then
            from, bytes = source, #source
        elseif type(source) == "cdata" and native.is_buffer(source) then
            from, bytes = source:ptr(), source:bytes()
        elseif is_pointer(source) and source ~= nil then
            from, bytes = source, check_size("copy", "count", count, 0) * size
            count = nil
        else
            bad_argument(2, "copy", "source", "string, buffer, or pointer and count", source)
        end
        if count ~= nil then
            bad_argument(2, "copy", "count", "nothing, where the source is no pointer,", count)
        elseif bytes % size ~= 0 then
            bad_argument(2, "copy", "source", ("whole elements of %d bytes"):format(size), bytes)
        elseif at * size + bytes > n * size then
            out_of_bounds("copy", at + bytes / size - 1, n)
        elseif type(from) == "string" then
            copy_bytes(data + at, from, bytes)
        elseif bytes > 0 then -- parts of one buffer may overlap
            c_memmove(data + at, from, bytes)
        end
        return b
    end

    -- The bytes of all elements, or of those from `first` to the one before `last`.
    function methods.tostring(b, first, last)
        local data, n = span(b)
        first, last = check_range("tostring", first, last, n)
        if first == last then
            return ""
        end
        return ffi_string(data + first, (last - first) * size)
    end

    function methods.ipairs(b)
        span(b)
        return iterate, b, -1
    end

    return methods
end

local function description(what, element, span)
    return function(b)
        local ok, _, n = pcall(span, b)
        return ok and ("jemalloc.%s: %d of %s"):format(what, n, tostring(element):match("<(.*)>"))
            or ("jemalloc.%s: no longer valid"):format(what)
    end
end

-- ---- Types: a struct for buffers and one for slices of each element type, made when first asked for

-- The collector calls it, perhaps where memory is short: it makes no object.
local function release(buffer)
    c_release(memory, buffer)
end

local function resize(buffer, n, zero, element_size)
    local bytes = n * element_size
    local result = c_resize(memory, buffer, n, bytes, zero)
    if result == OVER_LIMIT and collect() then -- what the script dropped may have made room
        result = c_resize(memory, buffer, n, bytes, zero)
    end
    if result == OVER_LIMIT or result == NO_MEMORY then
        return nil, ENOMEM
    elseif result == DUE then
        push_collector(memory)
    end
    return buffer
end

local function checked_count(fn, n, element_size)
    n = check_size(fn, "n", n, 0)
    if n * element_size > MAX_BYTES then
        local most = ("at most %d elements of %d bytes"):format(MAX_BYTES / element_size, element_size)
        bad_argument(3, fn, "n", most, n)
    end
    return n
end

local function slice_type_of(element, buffer_type)
    local methods = methods_of(element, span_of_slice)
    local slice_type

    function methods.slice(slice, first, last)
        local _, n = span_of_slice(slice)
        first, last = check_range("slice", first, last, n)
        local part = slice_type(slice._parent, slice._first + first, last - first, min(last - first, NEAR))
        parents[part] = parents[slice]
        return part
    end

    local struct = "struct { $ *_parent; int64_t _first; int64_t _n; int32_t _near; } /* %d */"
    struct = struct:format(tonumber(element))
    slice_type = metatype(typeof(struct, buffer_type), {
        __index = function(slice, i)
            if type(i) == "number" then
                if i >= 0 and i < slice._near and floor(i) == i then
                    local parent = slice._parent
                    local place = slice._first + i
                    if place < parent._n then
                        return parent._data[place]
                    end
                end
                local data, place = far("slice", span_of_slice, slice, i)
                return data[place]
            end
            return methods[i] or error(("a slice has no %s"):format(tostring(i)), 2)
        end,
        __newindex = function(slice, i, value)
            if type(i) ~= "number" then
                error(("a slice has no %s"):format(tostring(i)), 2)
            end
            if i >= 0 and i < slice._near and floor(i) == i then
                local parent = slice._parent
                local place = slice._first + i
                if place < parent._n then
                    parent._data[place] = value
                    return
                end
            end
            local data, place = far("slice", span_of_slice, slice, i)
            data[place] = value
        end,
        __len = methods.len,
        __tostring = description("slice", element, span_of_slice),
    })
    return slice_type
end

local types = {}        -- id of an element type -> its buffers' struct
local element_sizes = {} -- the same -> bytes of an element
local is_span = {}      -- id of a struct of ours -> true

function native.is_buffer(value)
    return is_span[tonumber(typeof(value))] == true and tonumber(value) == nil
end

local function buffer_type_of(element)
    local buffer_type
    local slice_type
    local methods = methods_of(element, span_of_buffer)
    local size = sizeof(element)

    -- To n elements, the first ones kept; new ones are zero unless `zero` is false. nil, errno: unchanged.
    function methods.resize(buffer, n, zero)
        span_of_buffer(buffer)
        return resize(buffer, checked_count("resize", n, size), zero ~= false, size)
    end

    -- The elements from `first` to the one before `last`, without copying.
    function methods.slice(buffer, first, last)
        local _, n = span_of_buffer(buffer)
        first, last = check_range("slice", first, last, n)
        local slice = slice_type(buffer, first, last - first, min(last - first, NEAR))
        parents[slice] = buffer
        return slice
    end

    methods.free = release

    -- The comments make each text one of its own: busted, a test framework, caches ffi.typeof() by the text.
    local cdef = native.structs.Buffer:gsub("Element", "$"):gsub("ArenaBlock", "$")
    buffer_type = typeof(("%s /* %d */"):format(cdef, tonumber(element)), element, native.block_type)
    slice_type = slice_type_of(element, buffer_type)
    is_span[tonumber(buffer_type)], is_span[tonumber(slice_type)] = true, true
    return metatype(buffer_type, {
        __index = function(buffer, i)
            if type(i) == "number" then
                if i >= 0 and i < buffer._near and floor(i) == i then
                    return buffer._data[i]
                end
                local data, place = far("buffer", span_of_buffer, buffer, i)
                return data[place]
            end
            return methods[i] or error(("a buffer has no %s"):format(tostring(i)), 2)
        end,
        __newindex = function(buffer, i, value)
            if type(i) ~= "number" then
                error(("a buffer has no %s"):format(tostring(i)), 2)
            end
            if i >= 0 and i < buffer._near and floor(i) == i then
                buffer._data[i] = value
                return
            end
            local data, place = far("buffer", span_of_buffer, buffer, i)
            data[place] = value
        end,
        __len = methods.len,
        __gc = release,
        __tostring = description("buffer", element, span_of_buffer),
    })
end

-- ---- J.buffer

local function element_type(ctype)
    local ok, element = pcall(typeof, ctype)
    if not ok and element == "not enough memory" then
        error(element, 0)
    elseif not ok or (type(ctype) ~= "string" and type(ctype) ~= "cdata") then
        bad_argument(3, "buffer", "ctype", "C type", ctype)
    end
    local id = tonumber(element)
    local size = element_sizes[id]
    if not size then
        ok, size = pcall(sizeof, element)
        if not ok or not size or size == 0 or tostring(element):find("&") then
            bad_argument(3, "buffer", "ctype", "C type of a fixed size", tostring(element))
        end
        types[id], element_sizes[id] = buffer_type_of(element), size
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
            bad_argument(3, "buffer", "options", "table", options)
        end
        for key in pairs(options) do
            if not option_names[key] then
                bad_argument(3, "buffer", "options", "align, zero or arena", key)
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

-- A buffer of bytes with the contents of a string; of another C type where one is given.
function J.buffer.from(text, ctype)
    if type(text) ~= "string" then
        bad_argument(2, "buffer.from", "text", "string", text)
    end
    ctype = ctype or "uint8_t"
    local _, size = element_type(ctype)
    if #text % size ~= 0 then
        bad_argument(2, "buffer.from", "text", ("string of whole elements of %d bytes"):format(size), #text)
    end
    local buffer, err = create(ctype, #text / size, { zero = false })
    if not buffer then
        return nil, err
    end
    return buffer:copy(text)
end

-- Bytes in all buffers of this state, those included that wait for the collector.
function J.buffer.held()
    return c_held(memory)
end
