-- Runs a function hot and fails when LuaJIT gives up a trace of it or falls back to the interpreter.

local vmdef = require("jit.vmdef")

local traces = {}

-- f(n) must loop n times. Every trace that is begun must be finished, and at least one must be.
function traces.compiles(f, n)
    local finished, aborts = 0, {}
    local function watch(what, _, _, _, err, info)
        if what == "stop" then
            finished = finished + 1
        elseif what == "abort" then
            local reason = type(err) == "number" and vmdef.traceerr[err] or err
            -- Not failures: a loop that is entered again while an inner one is being recorded.
            if not (reason:find("leaving loop", 1, true) or reason:find("inner loop", 1, true)) then
                aborts[#aborts + 1] = reason:format(tostring(info))
            end
        end
    end
    f(1) -- what is looked up once, by code that is not compiled, is known from here on
    jit.flush()
    jit.attach(watch, "trace")
    local ok, message = pcall(f, n or 2000)
    jit.attach(watch)
    assert(ok, message)
    assert(#aborts == 0, "traces were aborted: " .. table.concat(aborts, "; "))
    assert(finished > 0, "nothing was compiled")
end

return traces
