-- The parser, string.dump() and what they make: sources that grow, functions with many constants.
local N = tonumber((...)) or 6

for i = 1, N do
    local source = { "local t, up = ..., {} " }
    for k = 1, i * 4 do
        source[#source + 1] = ("local function f%d(a, ...) up[%d] = a; return { a, 'k%d', %d.5, f = t } end "):format(
            k, k, k * i, k)
        source[#source + 1] = ("for j = 1, 3 do t[j + %d] = f%d(j, ...) end "):format(k, k)
    end
    source[#source + 1] = "return t"
    local chunk = assert(loadstring(table.concat(source)))
    local ok, code = pcall(string.dump, chunk, i % 2 == 0)
    if not ok then -- whatever was wrong, LuaJIT says "unable to dump given function"
        error("not enough memory", 0)
    end
    local again = assert(loadstring(code))
    assert(#again({}) == i * 4 + 3)
end
