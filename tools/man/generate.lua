-- Makes a manual page of a template in mdoc(7): a line `@name@` stands for what is told in one place only, the
-- command's own help, the comments of the public header, the documentation strings of tools.
--
--   jemalloc-luajit generate.lua COMMAND HEADER TEMPLATE OUTPUT

local command, header, template, output = unpack(arg)

local function read_file(name)
    local file = assert(io.open(name))
    local text = file:read("*a")
    file:close()
    return text
end

-- What the command prints; its path may have spaces.
local function output_of(arguments)
    local pipe = assert(io.popen("'" .. command:gsub("'", "'\\''") .. "' " .. arguments))
    local text = pipe:read("*a")
    pipe:close()
    return text
end

-- ---- mdoc

-- What roff takes for its own is hidden.
local function escape(line)
    return (line:gsub("\\", "\\e"):gsub("^([.'])", "\\&%1"))
end

-- Text in lines of a page's width, where each sentence begins one.
local function fill(text)
    local out = {}
    for sentence in (text:gsub("%s+", " "):gsub("([.!?]) (%u)", "%1\n%2") .. "\n"):gmatch("(.-)\n") do
        local line = ""
        for word in sentence:gmatch("%S+") do
            if #line + #word > 78 then
                out[#out + 1] = escape(line)
                line = word
            else
                line = line == "" and word or line .. " " .. word
            end
        end
        out[#out + 1] = escape(line)
    end
    return table.concat(out, "\n")
end

-- A word as the argument of a macro, where a lone punctuation mark and a macro's name would be something else.
local function argument(word)
    return (word:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub('"', "\\(dq"):gsub("^(%u%l)$", "\\&%1"))
end

local function literal(lines)
    local out = { ".Bd -literal -offset indent" }
    for _, line in ipairs(lines) do
        out[#out + 1] = escape(line)
    end
    out[#out + 1] = ".Ed"
    return table.concat(out, "\n")
end

-- The lines of a comment: paragraphs, and what is indented as it is.
local function prose(lines)
    local out, block, kind = {}, {}, nil
    local function finish()
        while block[#block] == "" do
            block[#block] = nil
        end
        if kind == "code" then
            out[#out + 1] = literal(block)
        elseif kind == "text" then
            out[#out + 1] = (out[1] and ".Pp\n" or "") .. fill(table.concat(block, " "))
        end
        block, kind = {}, nil
    end
    for _, line in ipairs(lines) do
        local here = line:find("^    ") and "code" or line ~= "" and "text" or kind == "code" and "code" or nil
        if here ~= kind then
            finish()
            kind = here
        end
        block[#block + 1] = here and line:gsub("^    ", "") or nil
    end
    finish()
    return table.concat(out, "\n")
end

-- ---- The command's help

local function option_list()
    local out = { ".Bl -tag -width Ds" }
    for words, what in output_of("-h 2>&1"):gmatch("\n  (%-.-)  +([^\n]+)") do
        local name, value = words:match("^%-(%S*)%s*(.*)$")
        local bare, optional = name:match("^(.-)%[(.-)%]$")
        name = bare or name
        out[#out + 1] = ".It " .. (name == "" and "\\-" or ".Fl " .. argument(name)):gsub("^%.", "")
            .. (optional and " Ns Op " .. (optional:find("^=") and "" or "Ar ") .. optional or "")
            .. (value ~= "" and value ~= "..." and " Ar " .. argument(value) or "")
        out[#out + 1] = fill(what)
    end
    assert(#out > 10, "the command's usage was not understood")
    out[#out + 1] = ".El"
    return table.concat(out, "\n")
end

-- The options of a heap, or those that only JEMALLOC_LUA_CONF takes.
local function heap_options(environment)
    local out = { ".Bl -tag -width Ds" }
    local help = output_of("--jemalloc-help")
    local own, process = help:match("takes\n(.-)in JEMALLOC_LUA_CONF only:\n(.*)$")
    local entry = "(%S+) +(%S+) +([^\n]-):\n +([^\n]+)\n"
    for key, default, what, takes in (environment and process or own):gmatch(entry) do
        local sentence = what:find("^[%l_]+:") and what or what:gsub("^%l", string.upper)
        out[#out + 1] = (".It Cm %s : Ns Ar value"):format(argument(key))
        out[#out + 1] = fill(("%s. Takes %s. Default: %s."):format(sentence, takes, default))
    end
    assert(#out > 1, "the command's help was not understood")
    out[#out + 1] = ".El"
    return table.concat(out, "\n")
end

-- ---- The header

-- Calls visit(kind, lines) for the parts of the header: a "section" by its name, a "comment", a "declaration".
local function each_part(visit)
    local text = read_file(header):gsub("#if[^\n]*__%w+.-\n#endif\n", "") -- for C++ and for GNU compilers
    local part, kind = {}, nil
    local function finish()
        if part[1] then
            visit(kind, part)
        end
        part, kind = {}, nil
    end
    for line in text:gmatch("([^\n]*)\n") do
        local section = line:match("^/%* %-%-%-%- (.-) %-+ %*/$")
        if section then
            finish()
            visit("section", { section })
        elseif kind == "comment" then
            local last = line:find("%*/$")
            line = line:gsub("%s*%*/$", ""):gsub("^ %* ?", "")
            if not (last and line == "") then
                part[#part + 1] = line
            end
            if last then
                finish()
            end
        elseif kind == "declaration" and part[1]:find("{$") and not part[#part]:find("^}") then
            part[#part + 1] = line -- comments and empty lines within are the declaration's own
        elseif line == "" then
            finish()
        elseif not kind and line:find("^/%*") then
            kind = "comment"
            part[1] = line:gsub("^/%*%s*", "")
            if part[1] == "" then
                part[1] = nil
            end
            if line:find("%*/$") then
                part[1] = part[1]:gsub("%s*%*/$", "")
                finish()
            end
        else
            kind = "declaration"
            part[#part + 1] = line:gsub("^JEMALLOC_LUA_API ", ""):gsub("^" .. (" "):rep(17), "")
        end
    end
    finish()
end

local function is_public(lines)
    return not lines[1]:find("^#i") and not lines[1]:find("^#endif") and not lines[1]:find("^#define JEMALLOC_LUA_H$")
end

local function synopsis()
    local out = {}
    each_part(function(kind, lines)
        local code = table.concat(lines, " "):gsub("%s+", " ")
        local result, name, arguments = code:match("^([%w_ *]-)([%l_]+)%(([^()]*)%);$")
        if kind == "declaration" and name then
            out[#out + 1] = (".Ft %s"):format(argument(result:gsub(" $", "")))
            out[#out + 1] = (".Fo %s"):format(name)
            for each in arguments:gmatch("[^,]+") do
                out[#out + 1] = ('.Fa "%s"'):format(each:gsub("^ ", ""))
            end
            out[#out + 1] = ".Fc"
        end
    end)
    assert(out[1], "the header has no functions")
    return table.concat(out, "\n")
end

-- Each declaration as it is written, then what is said of it.
local function reference()
    local out, said, first = {}, nil, true
    each_part(function(kind, lines)
        if kind == "section" then
            out[#out + 1] = ".Ss " .. lines[1]
            said = nil
        elseif kind == "comment" then
            if first then -- the head of the file: a title, and what the library is
                table.remove(lines, 1)
                out[#out + 1] = prose(lines)
                first = false
            else
                said = lines
            end
        elseif is_public(lines) then
            out[#out + 1] = literal(lines)
            if said then
                out[#out + 1] = ".Pp\n" .. prose(said)
            end
            said = nil
        end
    end)
    return table.concat(out, "\n")
end

-- ---- A tool's documentation string, after the two paragraphs that say what it is and how it is called

local function docstring(tool)
    local text = read_file(template:match("^(.*/)") .. "../" .. tool):match('"""(.-)"""')
    local out, count = {}, 0
    for paragraph in (text .. "\n\n"):gmatch("(.-)\n\n+") do
        count = count + 1
        if count > 2 then
            out[#out + 1] = fill(paragraph)
        end
    end
    assert(out[1], tool .. " says nothing of itself")
    return table.concat(out, "\n.Pp\n")
end

-- ---- The page

local parts = {
    options = option_list,
    heap = function()
        return heap_options(false)
    end,
    environment = function()
        return heap_options(true)
    end,
    synopsis = synopsis,
    reference = reference,
    docstring = docstring,
}
local page = read_file(template):gsub("@(%l+) ?(%l*)@", function(name, of)
    return assert(parts[name], "nothing is known of @" .. name .. "@")(of)
end)
local file = assert(io.open(output, "w"))
file:write(page)
file:close()
