// Runs a workload in a state, as a host would: libraries open, arguments given, its result kept.
#pragma once

#include <string>
#include <vector>

#include "allocators.h"

namespace jemalloc_lua::bench {

// Opens the libraries and gives the script what a benchmark's host offers: print() that keeps what is
// printed, and run_in_new_state(source, argument) on the same allocator. The allocator must outlive L.
void prepare(lua_State *L, const Allocator &allocator);

// Runs the file with these arguments, as `...` and in the table `arg`. True, and what it printed in `result`;
// or false and the error.
bool run_file(lua_State *L, const std::string &path, const std::vector<std::string> &arguments,
              std::string &result);

}  // namespace jemalloc_lua::bench
