#include "luajit/layout.h"

#include "luajit/collector.h"

namespace jemalloc_lua::luajit {

std::uint64_t *find_total(lua_State *L, void *state_block, std::size_t state_block_size) {
    void *ud = nullptr;
    const lua_Alloc alloc = lua_getallocf(L, &ud);
    auto *words = static_cast<std::uint64_t *>(state_block);
    for (std::size_t i = 0; i + 2 < state_block_size / sizeof *words; ++i) {
        if (words[i] != reinterpret_cast<std::uintptr_t>(alloc)) continue;
        if (words[i + 1] != reinterpret_cast<std::uintptr_t>(ud)) continue;
        return words[i + 2] == live_bytes(L) ? &words[i + 2] : nullptr;
    }
    return nullptr;
}

}  // namespace jemalloc_lua::luajit
