-- The module's table of mallctl names, read from its source, and the names that jemalloc's own source defines.

local source = assert(os.getenv("JEMALLOC_LUA_SOURCE"), "JEMALLOC_LUA_SOURCE names the source folder")
local native = {}
assert(loadfile(source .. "/binding/lua/names.lua"))({}, native)

local names = native.names

local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

-- Words of jemalloc's source: the tables of its tree, as ctl.c has them, are lists of NAME("word") with what is
-- below. Those of its mutexes are made by macros, of lists in mutex_prof.h.
function names.in_source(folder)
    local ctl = read(folder .. "/src/ctl.c")
    local mutex_lists = read(folder .. "/include/jemalloc/internal/mutex_prof.h")
    local nodes, counters = {}, {}
    for name, body in ctl:gmatch("static const ctl_named_node_t%s+([%w_]+)_node%[%]%s*=%s*(%b{})") do
        local node = {}
        for word, kind, below in body:gmatch('NAME%("([^"]*)"%)%s*,%s*(%u+)%(([^)]*)%)') do
            node[#node + 1] = { word = word, leaf = kind == "CTL", indexed = below:match("^%s*indexed"),
                below = below:match("([%w_]+)%s*$") }
        end
        local list = body:match("(MUTEX_PROF_%u+_MUTEXES)")
        if list then
            for mutex in mutex_lists:match("#define " .. list .. "(.-)\n\n"):gmatch("OP%(([%w_]+)%)") do
                node[#node + 1] = { word = mutex, below = "mutex" }
            end
        end
        nodes[name] = node
    end
    for word in ctl:match("#define MUTEX_PROF_DATA_NODE%(prefix%).-(%b{})"):gmatch('NAME%("([^"]*)"%)') do
        counters[#counters + 1] = { word = word, leaf = true }
    end

    local found = {}
    local function visit(node, path)
        for _, entry in ipairs(node) do
            local name = path == "" and entry.word or path .. "." .. entry.word
            local below = entry.below
            if entry.leaf then
                found[#found + 1] = name
            elseif entry.indexed then
                visit(assert(nodes[below .. "_i"] or nodes[below .. "_j"], below),
                    name .. (name:find("<i>", 1, true) and ".<j>" or ".<i>"))
            else
                visit(nodes[below] or assert(below:find("mutex$") and counters, below), name)
            end
        end
    end
    visit(assert(nodes.root), "")
    return found
end

return names
