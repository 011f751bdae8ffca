// jemalloc's explicit tcaches. There are some 4,090; a heap without one is slower. Any thread may call these.
#pragma once

#include <optional>

namespace jemalloc_lua {

std::optional<unsigned> create_tcache();
void destroy_tcache(unsigned id);
void flush_tcache(unsigned id);

}  // namespace jemalloc_lua
