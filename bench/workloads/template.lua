-- A page renderer: templates are compiled to Lua once in a while and rendered often. String pieces
-- gathered in a table, escapes, a closure and an environment per rendering.
local N = tonumber((...)) or 5500

local concat, format = table.concat, string.format

local page = [[
<html><head><title>{{title}}</title></head><body>
<h1>{{title}}</h1>
<ul>{% for i, item in ipairs(items) do %}
  <li class="{{i % 2 == 0 and 'even' or 'odd'}}"><a href="/item/{{item.id}}">{{item.name}}</a>
  {% if item.price then %}<b>{{format("%.2f", item.price)}}</b>{% end %}</li>{% end %}
</ul><p>{{#items}} items</p></body></html>
]]

local escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(value)
    return (tostring(value):gsub('[&<>"]', escapes))
end

local function compile(source)
    local code = { "local out, escape = {}, escape\n" }
    local at = 1
    while true do
        local first, last, kind, body = source:find("{([{%%])(.-)[}%%]}", at)
        if not first then break end
        code[#code + 1] = format("out[#out + 1] = %q\n", source:sub(at, first - 1))
        code[#code + 1] = kind == "{" and "out[#out + 1] = escape(" .. body .. ")\n" or body .. "\n"
        at = last + 1
    end
    code[#code + 1] = format("out[#out + 1] = %q\nreturn table.concat(out)", source:sub(at))
    return assert(loadstring(concat(code), "=page"))
end

local function environment(values)
    return setmetatable(values, { __index = _G })
end

local render
local bytes = 0
for request = 1, N do
    if request % 50 == 1 then render = compile(page) end
    local items = {}
    for i = 1, 40 do
        items[i] = { id = request + i, name = "Thing <" .. i .. "> & co " .. request % 100 }
        if i % 3 == 0 then items[i].price = i * 1.25 end
    end
    local values = environment({ title = "Request " .. request, items = items, escape = escape, format = format })
    local html = setfenv(render, values)()
    bytes = bytes + #html
    if request == 1 then
        assert(html:find("<li class=\"odd\"><a href=\"/item/2\">Thing &lt;1&gt; &amp; co 1</a>", 1, true))
        assert(html:find("<b>3.75</b>", 1, true) and html:find("<p>40 items</p>", 1, true))
    end
end
print(format("template %d: %d bytes", N, bytes))
