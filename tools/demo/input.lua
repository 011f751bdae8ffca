-- What the job reads: jemalloc's ChangeLog, from where the build unpacked jemalloc or from its tarball, and
-- the Lua files that come with the running LuaJIT.
local input = {}

local modules = { "bc", "bcsave", "dump", "p", "v", "vmdef", "zone", "dis_arm", "dis_arm64", "dis_arm64be",
                  "dis_mips", "dis_mips64", "dis_mips64el", "dis_mipsel", "dis_ppc", "dis_x64", "dis_x86" }

function input.quote(word)
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

function input.lines_of(command)
    local lines = {}
    local pipe = assert(io.popen(command))
    for line in pipe:lines() do lines[#lines + 1] = line end
    pipe:close()
    return lines
end

-- Paths of jit/*.lua.
function input.lua_sources()
    local paths = {}
    for _, module in ipairs(modules) do
        paths[#paths + 1] = package.searchpath("jit." .. module, package.path)
    end
    if #paths == 0 then error("LuaJIT's jit/*.lua files are not on package.path: " .. package.path, 0) end
    return paths
end

-- Where the build directory that `command` lies in keeps what it builds on.
local function unpacked(command)
    local build = (command:match("^(.*)/[^/]*$") or ".") .. "/.."
    local cache = io.open(build .. "/CMakeCache.txt")
    if not cache then return nil end
    local folder = cache:read("*a"):match("\nJEMALLOC_LUA_DEPS_DIR:%w+=([^\n]*)")
    cache:close()
    if not folder then return nil end
    local wanted = input.quote(folder) .. "/jemalloc-*/source/ChangeLog"
    return input.lines_of("ls " .. wanted .. " 2>/dev/null")[1]
end

-- The path of the text, and whether it is a temporary file that the caller removes.
function input.text(command)
    local path = unpacked(command)
    if path then return path, false end
    local folder = os.getenv("XDG_CACHE_HOME") or (os.getenv("HOME") or "") .. "/.cache"
    local tarballs = input.lines_of("ls " .. input.quote(folder) .. "/jemalloc_lua/jemalloc-*.tar.* 2>/dev/null")
    local given = os.getenv("JEMALLOC_LUA_TARBALL")
    if given then table.insert(tarballs, 1, given) end
    for _, tarball in ipairs(tarballs) do
        local file = io.open(tarball)
        if file then
            file:close()
            path = os.tmpname()
            local extract = "tar -xOf %s --wildcards '*/ChangeLog' >%s 2>/dev/null"
            os.execute(extract:format(input.quote(tarball), path))
            local extracted = io.open(path)
            local size = extracted and extracted:seek("end")
            if extracted then extracted:close() end
            if size and size > 0 then return path, true end
            os.remove(path)
        end
    end
    error("jemalloc's ChangeLog is not found: run tools/setup, or give a text by --text FILE", 0)
end

return input
