-- The reference's examples run, and the reference and the editors' annotations name what the module has.

local ffi = require("ffi")
local J = require("jemalloc")

local folder = assert(os.getenv("JEMALLOC_LUA_SOURCE")) .. "/binding/"

local function text_of(name)
    local file = assert(io.open(folder .. name))
    local text = file:read("*a")
    file:close()
    return text
end

-- The names of what the module has: "mallocx", "buffer.from", "heap.trim".
local function module_names()
    J.bind_standard_api()
    local names = {}
    for name, value in pairs(J) do
        names[name] = true
        if type(value) == "table" and name ~= "ctl" then
            for inner in pairs(value) do
                names[name .. "." .. inner] = true
            end
        end
    end
    return names
end

describe("the reference", function()
    it("has examples that run", function()
        local count = 0
        for code in text_of("README.md"):gmatch("```lua\n(.-)```") do
            local chunk = assert(loadstring(code, "=example"))
            setfenv(chunk, setmetatable({ J = J, ffi = ffi, print = function() end }, { __index = _G }))
            chunk()
            count = count + 1
        end
        assert.is_true(count > 10)
    end)

    it("names every function of the module", function()
        local text = text_of("README.md")
        for name in pairs(module_names()) do
            assert.truthy(text:find("J." .. name, 1, true), "the reference lacks J." .. name)
        end
    end)
end)

describe("the annotations", function()
    it("name what the module has, and nothing else", function()
        local text = text_of("library/jemalloc.lua")
        local annotated = {}
        for name in text:gmatch("\nfunction J%.([%w_.]+)") do
            annotated[name] = true
        end
        for name in text:gmatch("\n%-%-%-@field ([%w_]+)") do
            annotated[name] = true
        end
        assert.same(module_names(), annotated)
    end)

    it("name the methods of the objects", function()
        local text = text_of("library/jemalloc.lua")
        local objects = {
            slice = J.buffer("int", 1):slice(0),
            buffer = J.buffer("int", 1),
            arena = J.arena(),
            tcache = J.tcache(),
        }
        for kind, method in text:gmatch("\nfunction (%l+):([%w_]+)") do
            assert.equal("function", type(objects[kind][method]), kind .. ":" .. method)
        end
        -- And those that the source defines are annotated.
        for _, file in ipairs({ "lua/arena.lua", "lua/buffer.lua" }) do
            local source = text_of(file)
            for kind, method in source:gmatch("\n%s*function (%l+)_methods%.([%w_]+)") do
                assert.truthy(text:find(("function %s:%s("):format(kind, method), 1, true), kind .. ":" .. method)
            end
            for method in source:gmatch("\n%s*function methods%.([%w_]+)") do
                assert.truthy(text:find(":" .. method .. "(", 1, true), method)
            end
        end
    end)
end)
