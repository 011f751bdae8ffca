-- Which jemalloc the module binds, in each kind of process.

local J = require("jemalloc")

local setting = os.getenv("JEMALLOC_LUA_SETTING") or "stock"

-- Runs a Lua program in a stock interpreter; its output.
local function run(program, environment)
    local luajit = assert(os.getenv("JEMALLOC_LUA_LUAJIT"))
    local folder = assert(os.getenv("JEMALLOC_LUA_MODULE_FOLDER"))
    local command = ("env LUA_CPATH='%s/?.so' %s %s -e '%s' 2>&1"):format(
        folder, environment or "", luajit, program)
    local pipe = io.popen(command)
    local output = pipe:read("*a")
    pipe:close()
    return output
end

describe("the module", function()
    it("binds the jemalloc of the process where there is one, else its own", function()
        local expected = {
            stock = { "own", "je_" },
            host = { "own", "je_" },
            nginx = { "own", "je_" },
            command = { "own", "je_" },
            preload = { "process", "" },
            prefix = { "prefix", "foo_" },
        }
        assert.same(expected[setting], { J.provider(), J.get_prefix() })
    end)

    it("takes the prefix from the global, then from the environment", function()
        if setting ~= "stock" then
            return
        end
        local says = [[print(pcall(require, "jemalloc"))]]
        assert.truthy(run(says, "JEMALLOC_PREFIX=bar_"):find("JEMALLOC_PREFIX is 'bar_', but", 1, true))
        assert.truthy(run([[JEMALLOC_PREFIX="baz_" ]] .. says, "JEMALLOC_PREFIX=bar_"):find("'baz_'", 1, true))
        local named = [[print(require("jemalloc").provider())]]
        assert.equal("own\n", run(named, "JEMALLOC_PREFIX="))
        assert.equal("own\n", run(named, "JEMALLOC_PREFIX=je_"))
    end)
end)
