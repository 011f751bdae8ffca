-- A word index: which words a text has, how often, on which lines; and its most frequent words.

-- build(text): { [word] = { count =, lines = { ... } } }, and the array of the text's lines.
local function build(text)
    local index, lines = {}, {}
    for line in text:gmatch("[^\n]*") do
        lines[#lines + 1] = line
        for word in line:gmatch("%a[%w_'-]*") do
            word = word:lower()
            local entry = index[word]
            if not entry then
                entry = { count = 0, lines = {} }
                index[word] = entry
            end
            entry.count = entry.count + 1
            if entry.lines[#entry.lines] ~= #lines then entry.lines[#entry.lines + 1] = #lines end
        end
    end
    return index, lines
end

-- The n most frequent words as { word, count }, the more frequent first, equals by alphabet.
local function ranking(index, n)
    local all = {}
    for word, entry in pairs(index) do all[#all + 1] = { word, entry.count } end
    table.sort(all, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
    local top = {}
    for i = 1, math.min(n, #all) do top[i] = all[i] end
    return top
end

return { build = build, ranking = ranking }
