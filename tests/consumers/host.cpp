// The same in C++, with a limit that a script runs into.
#include <jemalloc_lua.h>
#include <lua.hpp>

#include <iostream>
#include <memory>
#include <string>

int main() {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    if (jemalloc_lua_options_parse(&options, "limit:8M", nullptr, 0) != 0) return 1;
    std::unique_ptr<lua_State, decltype(&jemalloc_lua_close)> L(jemalloc_lua_newstate_opts(&options),
                                                                jemalloc_lua_close);
    if (!L) return 2;
    luaL_openlibs(L.get());
    if (luaL_dostring(L.get(), "local t = {} for i = 1, 1e8 do t[i] = {i} end") == 0) return 3;
    std::cout << lua_tostring(L.get(), -1) << '\n';
    jemalloc_lua_stats stats{};
    stats.size = sizeof stats;
    if (jemalloc_lua_get_stats(L.get(), &stats) != 0) return 4;
    std::string text(4096, '\0');
    text.resize(static_cast<std::size_t>(jemalloc_lua_stats_format(&stats, 1, &text[0], text.size())));
    std::cout << text << '\n';
    return stats.refusals > 0 && stats.peak <= options.limit ? 0 : 5;
}
