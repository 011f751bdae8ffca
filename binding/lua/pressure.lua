-- Pressure of buffers on the garbage collector, which does not see their bytes.
--
-- What comes in is entered in an account. Once enough has come in since the last cycle, the collector is
-- stepped in proportion to what comes in then, so that dropped buffers do not pile up; when that ends a
-- cycle, as much again as is held may come in before the next, as the collector does with its own memory.

local _, native = ...

local collectgarbage, floor, max = collectgarbage, math.floor, math.max

local LEAST_ALLOWANCE = 8 * 2 ^ 20 -- bytes that may come in between two cycles at the least
local STEP = 2 ^ 18                -- bytes that come in between two steps within a cycle

local held = 0                     -- bytes in live buffers, dropped ones included until they are collected
local come_in = 0                  -- bytes allocated since the last cycle ended
local next_step = LEAST_ALLOWANCE  -- when to step: `come_in` at the next one

local function press()
    local kilobytes = floor((come_in - next_step + STEP) / 1024)
    if collectgarbage("step", kilobytes) then -- a cycle has ended: as much again as is held may come in
        come_in = 0
        next_step = max(LEAST_ALLOWANCE, held + collectgarbage("count") * 1024)
    else
        next_step = come_in + STEP
    end
end

local function enter(bytes)
    held = held + bytes
    come_in = come_in + bytes
    if come_in >= next_step then
        press()
    end
end

-- What goes was either new since the last cycle, or among what the collector was told to leave time for.
local function leave(bytes)
    held = held - bytes
    if come_in >= bytes then
        come_in = come_in - bytes
    else
        next_step = max(LEAST_ALLOWANCE, next_step - bytes)
    end
end

native.enter, native.leave = enter, leave

function native.held()
    return held
end
