// JEMALLOC_LUA_CONF, which is read once in a process: the options of heaps that are made without any, and the
// options of the process.

#include <cstdio>
#include <cstdlib>

#include "base/process.h"
#include "config/table.h"

namespace jemalloc_lua {
namespace {

void report_on_stderr(const char *problem) {
    std::fprintf(stderr, "jemalloc_lua: JEMALLOC_LUA_CONF: %s\n", problem);
}

const Environment &environment() {
    static constinit Once<Environment> found;
    return found.get([] { return read_environment(std::getenv("JEMALLOC_LUA_CONF"), report_on_stderr); });
}

}  // namespace

Environment read_environment(const char *conf, void (*report)(const char *problem)) {
    Environment found;
    jemalloc_lua_options_init(&found.options);
    if (conf == nullptr) return found;
    char text[512];
    using namespace option;
    const Message say{text, sizeof text};
    each_pair(conf, [&](std::string_view pair) {
        if (read_pair(found.options, &found.settings, pair, say) != 0) report(text);
        return 0;
    });
    if (check_together(found.options, say) != 0) {
        report(text);
        found.options.tcache = JEMALLOC_LUA_TCACHE_OWN;
    }
    return found;
}

const Options &environment_options() {
    return environment().options;
}

const Settings &environment_settings() {
    return environment().settings;
}

}  // namespace jemalloc_lua
