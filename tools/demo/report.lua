-- The table of a comparison, for people: 100 columns at most.
local report = {}

local function sorted(values)
    local copy = {}
    for i, value in ipairs(values) do copy[i] = value end
    table.sort(copy)
    return copy
end

local function median(values)
    local s = sorted(values)
    local middle = math.floor((#s + 1) / 2)
    return #s % 2 == 1 and s[middle] or (s[middle] + s[middle + 1]) / 2
end

local function minimum(values) return sorted(values)[1] end

local function milliseconds(seconds) return seconds and ("%.0f"):format(seconds * 1000) end
local function mebibytes(bytes) return bytes and ("%.1f"):format(bytes / 1048576) end
local function ratio(value) return value and ("%.2f"):format(value) end
local function number(value) return value and ("%d"):format(value) end

-- Each column: group, heading, unit, width, what stands there as a function of a row, how it is written, and
-- whether the lowest of the column stands out.
local columns = {
    { "time", "median", "ms", 7, function(row) return row.median end, milliseconds },
    { "time", "min", "ms", 6, function(row) return row.minimum end, milliseconds },
    { "to built-in", "median", "x", 8, function(row) return row.median_ratio end, ratio, true },
    { "to built-in", "min", "x", 6, function(row) return row.minimum_ratio end, ratio, true },
    { "resident", "peak", "MiB", 8, function(row) return row.peak end, mebibytes, true },
    { "resident", "final", "MiB", 7, function(row) return row.resident end, mebibytes, true },
    { "heap at the end", "live", "MiB", 8, function(row) return row.live end, mebibytes },
    { "heap at the end", "footprint", "MiB", 11, function(row) return row.heap.footprint end, mebibytes },
    { "heap at the end", "peak", "MiB", 7, function(row) return row.heap.peak end, mebibytes },
    { "heap at the end", "slabs", "", 7, function(row) return row.heap.slabs end, number },
    { "heap at the end", "large", "", 7, function(row) return row.heap.large_blocks end, number },
}
local name_width = 15

-- One row of figures per allocator: medians and minima over its runs.
function report.summarise(allocators)
    for _, row in ipairs(allocators) do
        local times, peaks, residents = {}, {}, {}
        for i, run in ipairs(row.runs) do
            times[i], peaks[i], residents[i] = run.seconds, run.peak, run.resident
        end
        row.median, row.minimum = median(times), minimum(times)
        row.peak = #peaks > 0 and median(peaks) or nil
        row.resident = #residents > 0 and median(residents) or nil
        row.live, row.heap = row.runs[#row.runs].live, row.runs[#row.runs].heap or {}
    end
    local first = allocators[1]
    for _, row in ipairs(allocators) do
        row.median_ratio, row.minimum_ratio = row.median / first.median, row.minimum / first.minimum
    end
end

local function lowest(rows, column)
    local best
    for _, row in ipairs(rows) do
        local text = column[6](column[5](row))
        if text and (not best or tonumber(text) < tonumber(best)) then best = text end
    end
    return best
end

-- The line of groups, each centred between rules over its columns.
local function group_line()
    local parts, i = { (" "):rep(name_width) }, 1
    while i <= #columns do
        local group, width = columns[i][1], 0
        while i <= #columns and columns[i][1] == group do
            width = width + columns[i][4]
            i = i + 1
        end
        local rules = width - 2 - #group - 2
        parts[#parts + 1] = "  " .. ("─"):rep(math.floor(rules / 2)) .. " " .. group .. " "
            .. ("─"):rep(math.ceil(rules / 2))
    end
    return table.concat(parts)
end

local function heading_line(field)
    local parts = { (" "):rep(name_width) }
    for i, column in ipairs(columns) do
        parts[i + 1] = (" "):rep(column[4] - #column[field]) .. column[field]
    end
    return (table.concat(parts):gsub("%s+$", ""))
end

-- The table as text; `bold` is a function that makes text stand out.
function report.table(rows, bold)
    local lines = { group_line(), bold(heading_line(2)), heading_line(3) }
    local best = {}
    for i, column in ipairs(columns) do best[i] = column[7] and lowest(rows, column) end
    for _, row in ipairs(rows) do
        local parts = { row.name .. (" "):rep(name_width - #row.name) }
        for i, column in ipairs(columns) do
            local text = column[6](column[5](row))
            local pad = (" "):rep(column[4] - #(text or "-"))
            parts[i + 1] = pad .. (text == nil and "-" or text == best[i] and bold(text) or text)
        end
        lines[#lines + 1] = table.concat(parts)
    end
    return table.concat(lines, "\n")
end

return report
