-- Runs job.lua on LuaJIT's built-in allocator, the system's and each front end of the library, each run in a
-- process of its own, the allocators in turn, several rounds; checks that all results agree; prints a table.
--
--     jemalloc-luajit compare.lua JEMALLOC-LUAJIT [--rounds N] [--passes N] [--text FILE]
local here = arg[0]:gsub("[^/]*$", "")
package.path = here .. "?.lua;" .. package.path
local ffi = require("ffi")
local input = require("input")
local json = require("json")
local report = require("report")

ffi.cdef("int isatty(int fd);")
local on_terminal = { out = ffi.C.isatty(1) == 1, err = ffi.C.isatty(2) == 1 }

local function bold(text)
    if not on_terminal.out or os.getenv("NO_COLOR") then return text end
    return "\27[1m" .. text .. "\27[0m"
end

local function read_options()
    local options = { command = arg[1], rounds = 5, passes = 2 }
    local usage = "usage: tools/demo/run JEMALLOC-LUAJIT [--rounds N] [--passes N] [--text FILE]"
    if not options.command then return nil, usage end
    for i = 2, #arg, 2 do
        local name, value = arg[i]:match("^%-%-(%l+)$"), arg[i + 1]
        if name == "text" and value then
            options.text = value
        elseif (name == "rounds" or name == "passes") and tonumber(value) and tonumber(value) >= 1 then
            options[name] = math.floor(tonumber(value))
        else
            return nil, ("%s is not understood; %s"):format(table.concat({ arg[i], value }, " "), usage)
        end
    end
    return options
end

-- The built-in allocator comes first: the others are compared with it.
local function list_allocators(command)
    local allocators = {
        { name = "built-in", option = "--jemalloc-allocator builtin" },
        { name = "system", option = "--jemalloc-allocator system" },
    }
    local help = table.concat(input.lines_of(input.quote(command) .. " --jemalloc-help"), "\n")
    local fronts = help:match("\nfront%s[^\n]*\n%s*([^\n]*)")
    if not fronts then error(command .. " --jemalloc-help does not list the front ends", 0) end
    for front in fronts:gsub(" or ", " "):gmatch("[%w_]+") do
        allocators[#allocators + 1] =
            { name = "front:" .. front, option = "--jemalloc front:" .. front .. " --jemalloc-stats=json" }
    end
    for _, allocator in ipairs(allocators) do allocator.runs = {} end
    return allocators
end

-- One process. It prints its result and, where the heap is ours, the heap's statistics: a JSON object each.
local function run_once(allocator, job)
    local words = { input.quote(job.command), allocator.option, job.words, "2>&1; echo exit $?" }
    local lines = input.lines_of(table.concat(words, " "))
    local objects, others = {}, {}
    local code = table.remove(lines) or "exit"
    for _, line in ipairs(lines) do
        if line:sub(1, 1) == "{" then
            objects[#objects + 1] = json.decode(line)
        else
            others[#others + 1] = line
        end
    end
    if code ~= "exit 0" or not objects[1] then
        error(("%s: the job failed (%s): %s"):format(allocator.name, code, others[1] or "no message"), 0)
    end
    objects[1].heap = objects[2]
    return objects[1]
end

local function show_progress(done, total, what)
    if not on_terminal.err then return end
    local width = 30
    local full = math.floor(done / total * width)
    local bar = ("█"):rep(full) .. ("░"):rep(width - full)
    io.stderr:write(("\r\27[K%s %2d of %d  %s"):format(bar, done, total, what))
    io.stderr:flush()
end

local function clear_progress()
    if on_terminal.err then io.stderr:write("\r\27[K") end
end

local function measure(allocators, job, rounds)
    local expected
    for round = 1, rounds do
        if not on_terminal.err then
            io.stderr:write(("round %d of %d, %d allocators\n"):format(round, rounds, #allocators))
        end
        for i, allocator in ipairs(allocators) do
            show_progress((round - 1) * #allocators + i - 1, rounds * #allocators, allocator.name)
            local run = run_once(allocator, job)
            expected = expected or run.checksum
            if run.checksum ~= expected then
                local differ = "results differ: the job came to %s on %s, to %s on %s"
                error(differ:format(expected, allocators[1].name, run.checksum, allocator.name), 0)
            end
            allocator.runs[round] = run
        end
    end
    clear_progress()
    return expected
end

local how_to_read = [[

Lower is better everywhere. x: CPU time over that of LuaJIT's built-in allocator.
resident: the whole process, at most and after its data became garbage. footprint: what the heap
holds from jemalloc. large: blocks outside of slabs. front:checked verifies each call: to debug.]]

local function count_lines(paths)
    local lines = 0
    for _, path in ipairs(paths) do
        for _ in io.lines(path) do lines = lines + 1 end
    end
    return lines
end

local function thousands(number)
    return (tostring(number):reverse():gsub("(%d%d%d)(%d)", "%1,%2"):reverse())
end

local function compare(command, rounds, passes, text)
    local sources = input.lua_sources()
    local allocators = list_allocators(command)
    local words = { input.quote(here .. "job.lua"), passes, input.quote(text) }
    for _, path in ipairs(sources) do words[#words + 1] = input.quote(path) end
    local job = { command = command, words = table.concat(words, " ") }
    local introduction = "A word index, a tokeniser, JSON there and back, a cache, over %s lines of text\n"
        .. "and %s lines of Lua, on %s. Processes on each allocator: %d."
    local text_lines, source_lines = thousands(count_lines({ text })), thousands(count_lines(sources))
    print(introduction:format(text_lines, source_lines, jit.version, rounds))
    io.stdout:flush()
    local checksum = measure(allocators, job, rounds)
    report.summarise(allocators)
    print("All results agree (" .. checksum .. ").\n")
    print(report.table(allocators, bold))
    print(how_to_read)
end

local options, why = read_options()
if not options then
    io.stderr:write("demo: ", why, "\n")
    os.exit(2)
end

local text, temporary
local function main()
    if options.text then text = options.text else text, temporary = input.text(options.command) end
    local file, problem = io.open(text)
    if file then
        problem = select(2, file:read(1)) -- a folder can be opened
        problem = problem and text .. ": " .. problem
        file:close()
    end
    if problem then error("cannot read " .. problem, 0) end
    compare(options.command, options.rounds, options.passes, text)
end

local ok, message = pcall(main)
if temporary then os.remove(text) end
if not ok then
    clear_progress()
    local interrupted = tostring(message):find("interrupted!", 1, true)
    io.stderr:write("demo: ", interrupted and "interrupted" or tostring(message), "\n")
    os.exit(interrupted and 130 or 1)
end
