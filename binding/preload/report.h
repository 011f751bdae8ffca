// The table of a process's states, for JEMALLOC_LUA_CONF=stats_print:true and stats_signal:USR2.
#pragma once

namespace jemalloc_lua {

// To be called before each state is made; the first call starts the bookkeeping where it is asked for.
void prepare_report();

}  // namespace jemalloc_lua
