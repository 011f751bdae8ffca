-- What buffers and slices have in common: methods over a range of elements.
--
-- `span(fn, object)` finds the range for the method `fn`. It checks that the object is of the method's own type and
-- still valid, and returns the address of the first element and the number of elements.

local ffi = require("ffi")

local _, native = ...

local type, tostring, tonumber, pcall, floor = type, tostring, tonumber, pcall, math.floor
local sizeof, copy_bytes, fill_bytes, ffi_string = ffi.sizeof, ffi.copy, ffi.fill, ffi.string

local bad_argument, fail = native.bad_argument, native.fail
local check_size, is_pointer = native.check_size, native.is_pointer
local c_memmove = native.bind("memmove", "void *(*)(void *, const void *, int64_t)")

local function out_of_bounds(what, i, n)
    fail(("%s: index %s is out of bounds: the length is %d"):format(what, tostring(i), tonumber(n)))
end

-- For an index that is not below `_near`: an address and the index from there, or an error out of bounds.
local function far(what, span, b, i)
    local data, n = span("[]", b)
    if not (i >= 0 and i < n and floor(i) == i) then
        out_of_bounds(what, i, n)
    end
    return data, i
end

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
        local _, n = span("len", b)
        return n
    end

    function methods.bytes(b)
        local _, n = span("bytes", b)
        return n * size
    end

    -- The address of the first element. It does not keep the buffer alive, and a resize moves it.
    function methods.ptr(b)
        return (span("ptr", b))
    end

    function methods.fill(b, value, first, last)
        local data, n = span("fill", b)
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

    -- `source` is a string, a buffer, a slice, or a pointer to `count` elements.
    function methods.copy(b, source, at, count)
        local data, n = span("copy", b)
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
            bad_argument("copy", "source", "string, buffer, or pointer and count", source)
        end
        if count ~= nil then
            bad_argument("copy", "count", "nothing, where the source is no pointer,", count)
        elseif bytes % size ~= 0 then
            bad_argument("copy", "source", ("whole elements of %d bytes"):format(size), bytes)
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
        local data, n = span("tostring", b)
        first, last = check_range("tostring", first, last, n)
        if first == last then
            return ""
        end
        return ffi_string(data + first, (last - first) * size)
    end

    function methods.ipairs(b)
        span("ipairs", b)
        return iterate, b, -1
    end

    return methods
end

local function description(what, element, span)
    return function(b)
        local ok, _, n = pcall(span, "tostring", b)
        return ok and ("jemalloc.%s: %d of %s"):format(what, n, tostring(element):match("<(.*)>"))
            or ("jemalloc.%s: no longer valid"):format(what)
    end
end

native.methods_of, native.far, native.description, native.check_range =
    methods_of, far, description, check_range
