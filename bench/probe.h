// Measurements of memory, each made in a process of its own: what an allocator keeps after one case must not
// be there when the next one begins.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace jemalloc_lua::bench {

// A name and a figure: bytes, counts, or "seconds", the time of what the probe is about.
using Figures = std::vector<std::pair<std::string, double>>;

// Runs this program again for one probe. False, and the reason, when the probe failed.
bool run_probe(const std::string &probe, const std::string &allocator, Figures &figures, std::string &why);

// What that other process does: `program --probe NAME ALLOCATOR` prints the figures; its exit status.
int probe_main(const std::string &probe, const std::string &allocator);

// All names, such as "state/alive/1000"; those that start with this.
std::vector<std::string> probe_names(const std::string &prefix);

}  // namespace jemalloc_lua::bench
