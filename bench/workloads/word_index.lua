-- A word index over real text (the opening of Lewis Carroll's "Alice's Adventures in Wonderland", 1865):
-- split into words, lower-case, note each position, then answer queries and sort by frequency.
local N = tonumber((...)) or 6000

local text = [[
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once
or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it,
"and what is the use of a book," thought Alice "without pictures or conversations?" So she was considering in
her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), whether the pleasure
of making a daisy-chain would be worth the trouble of getting up and picking the daisies, when suddenly a White
Rabbit with pink eyes ran close by her. There was nothing so very remarkable in that; nor did Alice think it so
very much out of the way to hear the Rabbit say to itself, "Oh dear! Oh dear! I shall be late!" (when she
thought it over afterwards, it occurred to her that she ought to have wondered at this, but at the time it all
seemed quite natural); but when the Rabbit actually took a watch out of its waistcoat-pocket, and looked at it,
and then hurried on, Alice started to her feet, for it flashed across her mind that she had never before seen a
rabbit with either a waistcoat-pocket, or a watch to take out of it, and burning with curiosity, she ran across
the field after it, and fortunately was just in time to see it pop down a large rabbit-hole under the hedge.
In another moment down went Alice after it, never once considering how in the world she was to get out again.
]]

local function add(index, document, source)
    local position = 0
    for word in source:gmatch("[%a'-]+") do
        position = position + 1
        word = word:lower()
        local entry = index[word]
        if not entry then
            entry = { count = 0, places = {} }
            index[word] = entry
        end
        entry.count = entry.count + 1
        entry.places[#entry.places + 1] = document * 1000 + position
        if position % 5 == 0 then -- a compound key now and then: new strings without end
            index[word .. "/" .. document % 400] = { count = 1, places = { position } }
        end
    end
    return position
end

local index, words = {}, 0
for document = 1, N do
    if document % 100 == 0 then index = {} end -- a new shard
    words = words + add(index, document, text)
end

local ranking = {}
for word, entry in pairs(index) do ranking[#ranking + 1] = { word, entry.count } end
table.sort(ranking, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
assert(words == 274 * N and ranking[1][1] == "the")
assert(index.rabbit.count * 14 == index["the"].count * 4 and index.rabbit.places[1] % 1000 > 0)
print(string.format("word_index %d: %d words, %d entries, first %q", N, words, #ranking, ranking[1][1]))
