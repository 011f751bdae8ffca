#include "trial.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "jemalloc_lua.h"
#include "lua.hpp"
#include "system/jemalloc.h"

namespace oom {
namespace {

constexpr const char *not_enough_memory = "not enough memory";

int no_print(lua_State *) {
    return 0;
}

void run_text(lua_State *L, const std::string &text, const char *name, const std::string &argument) {
    if (luaL_loadbuffer(L, text.data(), text.size(), name) != 0) lua_error(L);
    lua_pushlstring(L, argument.data(), argument.size());
    lua_call(L, 1, 0);
}

// All of a program that may raise an error, for one call that catches it.
int run_all(lua_State *L) {
    const auto &trial = *static_cast<const Trial *>(lua_touserdata(L, 1));
    luaL_openlibs(L);
    lua_pushcclosure(L, no_print, 0);
    lua_setglobal(L, "print");
    // Loops are compiled at once as a rule, and so are the ways out of them.
    const std::string on = "jit.opt.start('hotloop=" + std::to_string(trial.hotloop) + "', 'hotexit=1')";
    static const std::string off = "jit.off()";
    static const std::string open_ffi = "require('ffi')";
    if (trial.uses_ffi) {  // what LuaJIT can't bear: see luajit_faults.cpp
        pause();
        run_text(L, open_ffi, "=ffi", "");
        resume();
    }
    run_text(L, trial.jit ? on : off, "=jit", "");
    run_text(L, trial.source, trial.name.c_str(), trial.argument);
    return 0;
}

// A program that any state can run, and the collector twice.
int use_again(lua_State *L) {
    static const std::string text = R"(
        local t = {}
        for i = 1, 100 do t[i] = { tostring(i), function() return t[i] end, coroutine.create(print) } end
        for i = 1, 100 do assert(t[i][2]()[1] == tostring(i)) end
        assert(#table.concat({ ('x'):rep(5000), 'y' }) == 5001)
        t = nil
        collectgarbage() collectgarbage())";
    luaL_openlibs(L);
    run_text(L, text, "=again", "");
    return 0;
}

std::string message_of(lua_State *L) {
    const char *text = lua_tolstring(L, -1, nullptr);
    return text != nullptr ? text : std::string("an error that is a ") + lua_typename(L, lua_type(L, -1));
}

// Whether the program wants the refusal to hold until its state is closed.
bool wants_refused_close(lua_State *L) {
    const auto ask = [](lua_State *state) {
        lua_getglobal(state, "FINISH_ARMED");
        *static_cast<bool *>(lua_touserdata(state, 1)) = lua_toboolean(state, -1) != 0;
        return 0;
    };
    bool wants = false;
    return lua_cpcall(L, ask, &wants) == 0 && wants;
}

// LuaJIT on an allocator that can't be wrong: what happens here is LuaJIT's own doing.
std::size_t plain_bytes;

void *plain_alloc(void *, void *ptr, std::size_t old_size, std::size_t new_size) {
    if (ptr == nullptr) old_size = 0;
    if (new_size == 0) {
        std::free(ptr);
        plain_bytes -= old_size;
        return nullptr;
    }
    void *moved = std::realloc(ptr, new_size);
    if (moved != nullptr) plain_bytes += new_size - old_size;
    return moved;
}

lua_State *plain_state() {
    lua_State *L = lua_newstate(plain_alloc, nullptr);
    lua_atpanic(L, [](lua_State *) { return 0; });
    return L;
}

std::string read_file(const std::string &path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

}  // namespace

std::vector<Program> programs() {
    const std::string own = JEMALLOC_LUA_OOM_PROGRAMS;
    const std::string workloads = JEMALLOC_LUA_WORKLOADS;
    std::vector<Program> list;
    for (const char *name : {"opening", "closing", "compile", "errors", "tables", "module"}) {
        list.push_back({name, own + "/" + name + ".lua", "", 1});
    }
    const struct {
        const char *name;
        const char *size;
    } small[] = {
        {"array_growth", "50000"}, {"binary_trees", "4"},    {"closures", "12"},     {"coroutines", "60"},
        {"event_queue", "4"},      {"ffi_churn", "2000"},    {"hash_growth", "400"}, {"json", "1"},
        {"log_records", "50"},     {"lru_cache", "300"},     {"peak_idle", "200"},   {"request_loop", "2"},
        {"sparse_matrix", "8"},    {"string_buffer", "300"}, {"string_build", "2"},  {"template", "2"},
        {"tokeniser", "1"},        {"word_index", "2"}};
    for (const auto &[name, size] : small) {
        list.push_back({name, workloads + "/" + name + ".lua", size, 1});
        if (list.back().name == "event_queue") list.back().every = 16;
    }
    return list;
}

const std::vector<Setting> settings = {
    {"slab", "front:slab"},
    // As many slow paths as can be, in small programs.
    {"slab, tight", "front:slab,nursery:16K,slab:16K,huge_min:64K,arena_threshold:128K,retain:0,scrub:true"},
    {"slab, harden", "harden:true"},
    {"direct", "front:direct"},
    {"checked", "front:checked"},
    {"none", ""},
};

Trial::Trial(const Program &program, const Setting &setting, bool with_jit)
    : source(read_file(program.file)),
      name("@" + program.name),
      argument(program.argument),
      conf(setting.conf),
      jit(with_jit),
      plain(conf.empty()),
      uses_ffi(source.find("ffi") != std::string::npos || source.find("jemalloc") != std::string::npos) {
    jemalloc_lua_options_init(&options);
    jemalloc_lua_options_parse(&options, setting.conf, nullptr, 0);
}

Trial Trial::on_malloc() const {
    Trial same = *this;
    same.plain = true;
    return same;
}

Trial::Outcome Trial::run(Refusal refusal) const {
    Outcome outcome;
    const std::size_t before = jemalloc_bytes();
    // Of the state's own requests, those from within lua_newstate() are refused by the points behind them.
    const bool from_start = refusal.point != Point::request && !plain;
    if (from_start) arm(refusal);
    errno = 0;
    lua_State *L = plain ? plain_state() : jemalloc_lua_newstate_opts(&options);
    if (L == nullptr) {
        if (errno != ENOMEM) outcome.wrong = "no state, and errno is " + std::to_string(errno);
        outcome.refused = disarm();
        if (outcome.refused == 0) outcome.wrong = "no state, though nothing was refused";
    } else {
        if (!from_start) arm(refusal);
        const int status = lua_cpcall(L, run_all, const_cast<Trial *>(this));
        const bool closing = status == 0 && wants_refused_close(L);
        if (!closing) outcome.refused = disarm();
        if (status != 0) {
            const std::string message = message_of(L);
            if (message.find(not_enough_memory) == std::string::npos || outcome.refused == 0) {
                outcome.wrong = "error: " + message;
            }
            lua_settop(L, 0);
        }
        if (!closing && lua_cpcall(L, use_again, nullptr) != 0) {
            outcome.wrong = "not usable again: " + message_of(L);
        }
        if (!plain) {
            if (options.front == JEMALLOC_LUA_FRONT_DIRECT) jemalloc_lua_trim(L);  // its tcache
            jemalloc_lua_stats stats{};
            stats.size = sizeof stats;
            jemalloc_lua_get_stats(L, &stats);
            outcome.uncounted = static_cast<std::ptrdiff_t>(jemalloc_bytes() - before - stats.footprint);
            if (stats.live > stats.footprint) outcome.wrong = "more is live than is held";
        }
        if (refusal.nth % 2 == 0) {
            jemalloc_lua_close(L);
        } else {
            lua_close(L);
        }
        if (closing) outcome.refused = disarm();
    }
    outcome.left = static_cast<std::ptrdiff_t>(plain ? plain_bytes : jemalloc_bytes() - before);
    plain_bytes = 0;
    return outcome;
}

std::size_t jemalloc_bytes() {
    namespace je = jemalloc_lua::je;
    std::uint64_t epoch = 1;
    je::mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);  // freed blocks of the module's
    je::mallctl("epoch", nullptr, nullptr, &epoch, sizeof epoch);
    return je::read<std::size_t>("stats.allocated");
}

}  // namespace oom
