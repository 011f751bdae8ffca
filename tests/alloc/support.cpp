#include "support.h"

#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "system/jemalloc.h"

namespace test {

jemalloc_lua_options options(const std::string &conf) {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    char err[512] = "";
    EXPECT_EQ(0, jemalloc_lua_options_parse(&options, conf.c_str(), err, sizeof err)) << conf << ": " << err;
    return options;
}

State bare_state(const std::string &conf) {
    const jemalloc_lua_options chosen = options(conf);
    return State(jemalloc_lua_newstate_opts(&chosen));
}

State state(const std::string &conf) {
    State made = bare_state(conf);
    EXPECT_NE(nullptr, made) << conf;
    if (made != nullptr && !open_libraries(made.get())) {
        ADD_FAILURE() << "no libraries: " << lua_tostring(made.get(), -1);
        lua_pop(made.get(), 1);
    }
    return made;
}

bool open_libraries(lua_State *L) {
    const auto open = [](lua_State *state) {
        luaL_openlibs(state);
        return 0;
    };
    return lua_cpcall(L, open, nullptr) == 0;
}

std::string run(lua_State *L, const std::string &program) {
    const bool failed =
        luaL_loadbuffer(L, program.data(), program.size(), "=test") != 0 || lua_pcall(L, 0, 0, 0) != 0;
    if (!failed) return "";
    const char *message = lua_tostring(L, -1);
    std::string text = message != nullptr ? message : "an error that is no string";
    lua_pop(L, 1);
    return text;
}

double number(lua_State *L, const std::string &expression) {
    EXPECT_EQ("", run(L, "RESULT = " + expression));
    lua_getfield(L, LUA_GLOBALSINDEX, "RESULT");
    const double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

jemalloc_lua_stats stats(lua_State *L) {
    jemalloc_lua_stats stats{};
    stats.size = sizeof stats;
    EXPECT_EQ(0, jemalloc_lua_get_stats(L, &stats));
    return stats;
}

std::size_t lua_bytes(lua_State *L) {
    return static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNT, 0)) * K +
           static_cast<std::size_t>(lua_gc(L, LUA_GCCOUNTB, 0));
}

void collect(lua_State *L) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
}

std::size_t resident_bytes() {
    unsigned long size = 0;
    unsigned long resident = 0;
    std::FILE *file = std::fopen("/proc/self/statm", "r");
    if (file == nullptr || std::fscanf(file, "%lu %lu", &size, &resident) != 2) {
        ADD_FAILURE() << "/proc/self/statm can't be read";
    }
    if (file != nullptr) std::fclose(file);
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t jemalloc_bytes() {
    namespace je = jemalloc_lua::je;
    std::uint64_t epoch = 1;
    je::mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
    return je::read<std::size_t>("stats.allocated");
}

void expect_jemalloc_bytes(std::size_t before) {
#ifdef JEMALLOC_LUA_TEST_SYSTEM_JEMALLOC
    EXPECT_LE(jemalloc_bytes(), before + 256 * K);
#else
    EXPECT_LE(jemalloc_bytes(), before);
#endif
}

std::string FrontAndArena::conf(const std::string &more) const {
    const std::string chosen = front() == "harden" ? "slab,harden:true" : front();
    return "front:" + chosen + ",arena:" + arena() + (more.empty() ? "" : "," + more);
}

Heap FrontAndArena::heap(const std::string &more) const {
    const jemalloc_lua_options chosen = options(conf(more));
    Heap made(jemalloc_lua_heap_create(&chosen));
    EXPECT_NE(nullptr, made) << conf(more);
    return made;
}

std::string name_of(const testing::TestParamInfo<FrontArena> &info) {
    return std::get<0>(info.param) + "_" + std::get<1>(info.param);
}

}  // namespace test
