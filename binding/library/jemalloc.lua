---@meta jemalloc
-- luacheck: ignore
-- Annotations of the module `jemalloc` for the Lua language server; README.md beside this folder explains.

---@class jemalloc
---@field ENOENT integer
---@field EPERM integer
---@field EAGAIN integer
---@field ENOMEM integer
---@field EFAULT integer
---@field EINVAL integer
---@field ctl table jemalloc's mallctl namespace as a table: `J.ctl.arena[0].dirty_decay_ms = 1000`
---@field buffer jemalloc.buffers
---@field heap jemalloc.heap
local J = {}

---The prefix of the names of the jemalloc in use.
---@return string
function J.get_prefix() end

---Which jemalloc is in use.
---@return "prefix"|"process"|"own"
function J.provider() end

---@param size integer bytes
---@param flags? integer
---@return ffi.cdata*? ptr `void *`
---@return integer? errno
function J.mallocx(size, flags) end

---@param ptr ffi.cdata*? nil allocates
---@param size integer bytes
---@param flags? integer
---@return ffi.cdata*? ptr nil: the block is unchanged
---@return integer? errno
function J.rallocx(ptr, size, flags) end

---@param ptr ffi.cdata*
---@param size integer bytes
---@param extra? integer bytes
---@param flags? integer
---@return integer size real size in bytes after the attempt
function J.xallocx(ptr, size, extra, flags) end

---@param ptr ffi.cdata*
---@param flags? integer
---@return integer size real size in bytes
function J.sallocx(ptr, flags) end

---@param ptr ffi.cdata*?
---@param flags? integer
function J.dallocx(ptr, flags) end

---@param ptr ffi.cdata*?
---@param size integer bytes
---@param flags? integer
function J.sdallocx(ptr, size, flags) end

---@param size integer bytes
---@param flags? integer
---@return integer? size real size in bytes
---@return integer? errno
function J.nallocx(size, flags) end

---@param ptr ffi.cdata*?
---@return integer size real size in bytes
function J.malloc_usable_size(ptr) end

---@param la integer 0 to 62
---@return integer flags
function J.MALLOCX_LG_ALIGN(la) end

---@param a integer a power of two; the lowest bit of another number counts
---@return integer flags
function J.MALLOCX_ALIGN(a) end

---@return integer flags
function J.MALLOCX_ZERO() end

---@param a integer|jemalloc.arena
---@return integer flags
function J.MALLOCX_ARENA(a) end

---@param tc integer|jemalloc.tcache
---@return integer flags
function J.MALLOCX_TCACHE(tc) end

---@return integer flags
function J.MALLOCX_TCACHE_NONE() end

---@param ... integer
---@return integer flags
function J.bor(...) end

---Puts malloc, calloc, posix_memalign, aligned_alloc, realloc and free into J.
---@return true? done
---@return string? message
function J.bind_standard_api() end

---@param size integer bytes
---@return ffi.cdata*? ptr
---@return integer? errno
function J.malloc(size) end

---@param number integer
---@param size integer bytes
---@return ffi.cdata*? ptr
---@return integer? errno
function J.calloc(number, size) end

---@param ptr ffi.cdata* a `void *[1]`
---@param alignment integer bytes
---@param size integer bytes
---@return true? done
---@return integer? errno
function J.posix_memalign(ptr, alignment, size) end

---@param alignment integer bytes
---@param size integer bytes
---@return ffi.cdata*? ptr
---@return integer? errno
function J.aligned_alloc(alignment, size) end

---@param ptr ffi.cdata*?
---@param size integer bytes
---@return ffi.cdata*? ptr
---@return integer? errno
function J.realloc(ptr, size) end

---@param ptr ffi.cdata*?
function J.free(ptr) end

---@param param string a name such as "stats.allocated"
---@param input? ffi.cdata* the address for arenas.lookup
---@return any value
---@return integer|string? err
function J.mallctl_read(param, input) end

---@param param string
---@param value? any
---@return any done
---@return integer|string? err
function J.mallctl_write(param, value) end

---@param write? fun(text: string)|file*|true
---@param opts? string
---@return any
function J.malloc_stats_print(write, opts) end

---@param options? {dirty_decay_ms?: integer, muzzy_decay_ms?: integer, retain_grow_limit?: integer, dss?: string, tcache?: boolean}
---@return jemalloc.arena?
---@return integer|string? err
function J.arena(options) end

---@return jemalloc.tcache?
---@return integer? errno
function J.tcache() end

---@class jemalloc.buffers
---@overload fun(ctype: string|ffi.ctype*, n: integer, options?: {align?: integer, zero?: boolean, arena?: jemalloc.arena}): jemalloc.buffer?, integer?
J.buffer = {}

---@param text string
---@param ctype? string|ffi.ctype*
---@return jemalloc.buffer?
---@return integer? errno
function J.buffer.from(text, ctype) end

---@return integer bytes
function J.buffer.held() end

---@class jemalloc.heap
J.heap = {}

---@return table<string, number|string>? stats
---@return string? reason
function J.heap.stats() end

---@param bytes? integer 0: none
---@return integer? bytes
---@return string? reason
function J.heap.limit(bytes) end

---@return integer? bytes
---@return string? reason
function J.heap.trim() end

---@class jemalloc.slice
---@field [integer] any
---@operator len: integer
local slice = {}

---@return integer elements
function slice:len() end

---@return integer bytes
function slice:bytes() end

---@return ffi.cdata* ptr
function slice:ptr() end

---@generic T
---@param self T
---@param value any
---@param first? integer
---@param last? integer the one after the last
---@return T
function slice:fill(value, first, last) end

---@generic T
---@param self T
---@param source string|jemalloc.slice|ffi.cdata*
---@param at? integer
---@param count? integer elements, where the source is a pointer
---@return T
function slice:copy(source, at, count) end

---@param first? integer
---@param last? integer the one after the last
---@return string
function slice:tostring(first, last) end

---@param first? integer
---@param last? integer the one after the last
---@return jemalloc.slice
function slice:slice(first, last) end

---@return fun(state: jemalloc.slice, i: integer): integer?, any
---@return jemalloc.slice
---@return integer
function slice:ipairs() end

---@class jemalloc.buffer: jemalloc.slice
local buffer = {}

---@param n integer elements
---@param zero? boolean
---@return jemalloc.buffer?
---@return integer? errno
function buffer:resize(n, zero) end

function buffer:free() end

---@class jemalloc.arena
local arena = {}

---@return integer
function arena:index() end

---@return integer flags
function arena:flags() end

---@param size integer bytes
---@param flags? integer
---@return ffi.cdata*? ptr
---@return integer? errno
function arena:mallocx(size, flags) end

---@param ptr ffi.cdata*?
function arena:dallocx(ptr) end

---@param ctype string|ffi.ctype*
---@param n integer
---@param options? {align?: integer, zero?: boolean}
---@return jemalloc.buffer?
---@return integer? errno
function arena:buffer(ctype, n, options) end

---@return true?
---@return integer? errno
function arena:purge() end

---@return true?
---@return integer? errno
function arena:decay() end

---@return {allocated: integer, mapped: integer, resident: integer}?
---@return integer? errno
function arena:stats() end

function arena:release() end

---@class jemalloc.tcache
local tcache = {}

---@return integer
function tcache:id() end

---@return integer flags
function tcache:flags() end

---@return true?
---@return integer? errno
function tcache:flush() end

function tcache:release() end

return J
