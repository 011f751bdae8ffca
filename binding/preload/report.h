// The table of a process's states, for JEMALLOC_LUA_CONF=stats_print:true and stats_signal:USR2.
#pragma once

namespace jemalloc_lua {

// Called before each state is made. The first call starts the register, if the options ask for a table.
void prepare_report();

}  // namespace jemalloc_lua
