-- jemalloc's allocation functions: the *allocx family, the flags, and the standard malloc family.
--
-- Each C function is a function pointer held in a local that never changes, so the JIT compiler turns a
-- call into a direct machine call. Sizes are declared as int64_t, not size_t, because a Lua number converts to
-- int64_t in one instruction; the checks let no size above 2^53 through.

local ffi = require("ffi")
local bit = require("bit")

local J, native = ...

local type, tonumber = type, tonumber
local new, cast, typeof, errno = ffi.new, ffi.cast, ffi.typeof, ffi.errno
local floor = math.floor
local lshift, bor, band = bit.lshift, bit.bor, bit.band

local void_ptr = typeof("void *")
local functions, flag, bind = native.functions, native.flags, native.bind
local bad_argument, bad_pointer, is_pointer = native.bad_argument, native.bad_pointer, native.is_pointer
local is_place, check_size = native.is_place, native.check_size
local check_flags, check_free_flags = native.check_flags, native.check_free_flags
local MAX_SIZE = native.MAX_SIZE

J.ENOENT, J.EPERM, J.EAGAIN, J.ENOMEM, J.EFAULT, J.EINVAL = 2, 1, 11, 12, 14, 22
local ENOMEM = J.ENOMEM

function J.get_prefix()
    return native.prefix
end

function J.provider()
    return native.provider
end

-- ---- Flags

J.bor = bor

function J.MALLOCX_LG_ALIGN(la)
    if type(la) ~= "number" or la < 0 or la > 62 or floor(la) ~= la then
        bad_argument("MALLOCX_LG_ALIGN", "la", "integer from 0 to 62", la)
    end
    return la
end

-- As jemalloc's macro does, this takes the lowest bit of `a`: 3 stands for 1, and 48 for 16.
function J.MALLOCX_ALIGN(a)
    if type(a) ~= "number" or not (a >= 1 and a <= MAX_SIZE) or floor(a) ~= a then
        bad_argument("MALLOCX_ALIGN", "a", "power of two", a)
    end
    local la = 0
    while a % 2 == 0 do
        la, a = la + 1, a / 2
    end
    return la
end

-- The same for a promise of exactly that alignment: other numbers than powers of two are errors.
function native.align_flag(fn, name, value)
    local number = type(value) == "number" and value >= 1 and value <= MAX_SIZE and floor(value) == value
    local la = number and J.MALLOCX_ALIGN(value)
    if not number or 2 ^ la ~= value then
        bad_argument(fn, name, "power of two", value)
    end
    return la
end

function J.MALLOCX_ZERO()
    return flag.ZERO
end

function J.MALLOCX_TCACHE_NONE()
    return flag.TCACHE_NONE
end

-- ---- The *allocx family

local c_mallocx = bind("mallocx", "void *(*)(int64_t, int)")
local c_xallocx = bind("xallocx", "int64_t (*)(void *, int64_t, int64_t, int)")
local c_sallocx = bind("sallocx", "int64_t (*)(const void *, int)")
local c_dallocx = bind("dallocx", "void (*)(void *, int)")
local c_sdallocx = bind("sdallocx", "void (*)(void *, int64_t, int)")
local c_nallocx = bind("nallocx", "int64_t (*)(int64_t, int)")
local move, memory = native.move, native.memory
local ALIGN_MASK = flag.ALIGN_MASK

function J.mallocx(size, flags)
    if not (type(size) == "number" and size >= 1 and size <= MAX_SIZE and floor(size) == size) then
        size = check_size("mallocx", "size", size, 1)
    end
    local ptr = c_mallocx(size, flags and check_flags("mallocx", flags) or 0)
    if ptr == nil then
        return nil, ENOMEM
    end
    return ptr
end
local mallocx = J.mallocx

-- The pointer object is made first. Made after the move, it might find no memory, and the block's address
-- would be lost.
function J.rallocx(ptr, size, flags)
    if ptr == nil then
        return mallocx(size, flags)
    elseif not is_pointer(ptr) then
        bad_pointer("rallocx", "ptr", ptr)
    end
    if not (type(size) == "number" and size >= 1 and size <= MAX_SIZE and floor(size) == size) then
        size = check_size("rallocx", "size", size, 1)
    end
    flags = check_free_flags("rallocx", ptr, flags)
    local moved = new(void_ptr, ptr)
    if band(flags, ALIGN_MASK) == 0 and c_xallocx(ptr, size, 0, flags) == c_nallocx(size, flags) then
        return moved -- resized in place
    elseif not move(memory, moved, size, flags) then
        return nil, ENOMEM
    end
    return moved
end

function J.xallocx(ptr, size, extra, flags)
    if not is_pointer(ptr) or ptr == nil then
        bad_pointer("xallocx", "ptr", ptr)
    end
    size = check_size("xallocx", "size", size, 1)
    extra = extra and check_size("xallocx", "extra", extra, 0) or 0
    return tonumber(c_xallocx(ptr, size, extra, flags and check_flags("xallocx", flags) or 0))
end

function J.sallocx(ptr, flags)
    if not is_pointer(ptr) or ptr == nil then
        bad_pointer("sallocx", "ptr", ptr)
    end
    return tonumber(c_sallocx(ptr, flags and check_flags("sallocx", flags) or 0))
end

function J.dallocx(ptr, flags)
    if ptr == nil then
        return
    elseif not is_pointer(ptr) then
        bad_pointer("dallocx", "ptr", ptr)
    end
    c_dallocx(ptr, check_free_flags("dallocx", ptr, flags))
end

function J.sdallocx(ptr, size, flags)
    if ptr == nil then
        return
    elseif not is_pointer(ptr) then
        bad_pointer("sdallocx", "ptr", ptr)
    end
    size = check_size("sdallocx", "size", size, 1)
    c_sdallocx(ptr, size, check_free_flags("sdallocx", ptr, flags))
end

function J.nallocx(size, flags)
    if not (type(size) == "number" and size >= 1 and size <= MAX_SIZE and floor(size) == size) then
        size = check_size("nallocx", "size", size, 1)
    end
    local real = tonumber(c_nallocx(size, flags and check_flags("nallocx", flags) or 0))
    if real == 0 then
        return nil, ENOMEM
    end
    return real
end

-- ---- The standard family

local c_malloc_usable_size = bind("malloc_usable_size", "int64_t (*)(const void *)")

function J.malloc_usable_size(ptr)
    if ptr == nil then
        return 0
    elseif not is_pointer(ptr) then
        bad_pointer("malloc_usable_size", "ptr", ptr)
    end
    return tonumber(c_malloc_usable_size(ptr))
end

local function pointer_or_errno(ptr)
    if ptr == nil then
        return nil, errno()
    end
    return ptr
end

local standard_bound = false

function J.bind_standard_api()
    if standard_bound then
        return true
    end
    local c_malloc = bind("malloc", "void *(*)(int64_t)")
    local c_calloc = bind("calloc", "void *(*)(int64_t, int64_t)")
    local c_posix_memalign = bind("posix_memalign", "int (*)(void **, int64_t, int64_t)")
    local c_aligned_alloc = bind("aligned_alloc", "void *(*)(int64_t, int64_t)")
    local c_free = bind("free", "void (*)(void *)")
    if not (c_malloc and c_calloc and c_posix_memalign and c_aligned_alloc and functions.realloc and c_free) then
        return nil, ("the process has no %smalloc family"):format(native.prefix)
    end

    function J.malloc(size)
        return pointer_or_errno(c_malloc(check_size("malloc", "size", size, 0)))
    end

    function J.calloc(number, size)
        number = check_size("calloc", "number", number, 0)
        return pointer_or_errno(c_calloc(number, check_size("calloc", "size", size, 0)))
    end

    function J.posix_memalign(ptr, alignment, size)
        if not is_place(ptr) then
            bad_argument("posix_memalign", "ptr", "void *[1] to store the address in", ptr)
        end
        alignment = check_size("posix_memalign", "alignment", alignment, 0)
        size = check_size("posix_memalign", "size", size, 0)
        local err = c_posix_memalign(cast("void **", ptr), alignment, size)
        if err ~= 0 then
            return nil, err
        end
        return true
    end

    function J.aligned_alloc(alignment, size)
        alignment = check_size("aligned_alloc", "alignment", alignment, 0)
        size = check_size("aligned_alloc", "size", size, 0)
        return pointer_or_errno(c_aligned_alloc(alignment, size))
    end

    -- C leaves open whether realloc(ptr, 0) frees the block, so size 0 is an error here.
    function J.realloc(ptr, size)
        if ptr ~= nil and not is_pointer(ptr) then
            bad_pointer("realloc", "ptr", ptr)
        end
        size = check_size("realloc", "size", size, 1)
        local moved = new(void_ptr, ptr)
        local done, err = native.move_standard(memory, moved, size)
        if not done then
            return nil, err
        end
        return moved
    end

    function J.free(ptr)
        if ptr ~= nil and not is_pointer(ptr) then
            bad_pointer("free", "ptr", ptr)
        end
        if ptr ~= nil and native.arenas_chosen[0] ~= 0 then
            c_dallocx(ptr, flag.TCACHE_NONE)
        else
            c_free(ptr)
        end
    end

    standard_bound = true
    return true
end

-- The flags of arenas and tcaches by number. arena.lua wraps both functions to take objects too.
local function index_flag(fn, name, value, last, shift, base)
    if type(value) ~= "number" or value < 0 or value > last or floor(value) ~= value then
        bad_argument(fn, name, ("integer from 0 to %d"):format(last), value)
    end
    return lshift(value + base, shift)
end

function J.MALLOCX_ARENA(a)
    return index_flag("MALLOCX_ARENA", "a", a, flag.ARENA_INDICES - 1, flag.ARENA_SHIFT, 1)
end

function J.MALLOCX_TCACHE(tc)
    return index_flag("MALLOCX_TCACHE", "tc", tc, flag.TCACHE_IDS - 1, flag.TCACHE_SHIFT, 2)
end
