/* What finalizers make while a state closes is gone after it, on each front and in a state of LuaJIT's own;
   and finalizers may use the module's objects in any order. */
#include <jemalloc_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_jemalloc(lua_State *L);

/* Finalizers of userdata from before and from after require(), of C data, and of what a finalizer made.
   LuaJIT's collector does not end where a trace calls it in a finalizer. */
static const char tenant[] =
    "jit.off()\n"
    "local ffi = require 'ffi'\n"
    "local early = newproxy(true)\n"
    "J = require 'jemalloc'\n"
    "local kept, made = {}, {}\n"
    "local function object(k)\n"
    "    if k % 4 == 0 then return J.arena() elseif k % 4 == 1 then return J.tcache() end\n"
    "    if k % 4 == 2 then return J.arena():buffer('char', 1e5):fill(1) end\n"
    "    return J.buffer('char', 1e5, { align = 64 }):fill(1)\n"
    "end\n"
    "local function use(list)\n"
    "    for k, each in pairs(list) do\n"
    "        pcall(function() each:index() each:mallocx(100) end)\n"
    "        pcall(function() J.dallocx(J.mallocx(64, each:flags()), each:flags()) each:flush() end)\n"
    "        pcall(function() each[1] = 1 each:resize(2e5) each:slice(1):fill(2) end)\n"
    "        if k % 3 == 0 then pcall(function() each:release() end) pcall(function() each:free() end) end\n"
    "    end\n"
    "end\n"
    "local function finalizer()\n"
    "    use(kept) use(made)\n"
    "    for k = 1, 12 do made[#made + 1] = object(k) end\n"
    "    use(made)\n"
    "    collectgarbage()\n"
    "    if #made < 100 then getmetatable(newproxy(true)).__gc = finalizer end\n"
    "end\n"
    "getmetatable(early).__gc = finalizer\n"
    "for k = 1, 12 do kept[k] = object(k) end\n"
    "getmetatable(newproxy(true)).__gc = finalizer\n"
    "anchor = ffi.gc(ffi.new('int[1]'), finalizer)\n"
    "for k = 1, 12 do kept[#kept + 1] = object(k) end\n";

static void run(lua_State *L, const char *text) {
    if (luaL_dostring(L, text) == 0) return;
    fprintf(stderr, "closing: %s\n", lua_tostring(L, -1));
    exit(1);
}

static lua_State *open_state(const char *conf) {
    jemalloc_lua_options options;
    lua_State *L;
    jemalloc_lua_options_init(&options);
    if (conf == NULL) {
        L = luaL_newstate();
        luaL_openlibs(L);
        lua_getfield(L, LUA_GLOBALSINDEX, "package");
        lua_getfield(L, -1, "preload");
        lua_pushcfunction(L, luaopen_jemalloc);
        lua_setfield(L, -2, "jemalloc");
        lua_settop(L, 0);
        return L;
    }
    if (jemalloc_lua_options_parse(&options, conf, NULL, 0) != 0) exit(2);
    L = jemalloc_lua_newstate_opts(&options);
    if (L == NULL) exit(2);
    luaL_openlibs(L);
    return L;
}

static double number(lua_State *L, const char *name) {
    double value;
    lua_getglobal(L, "read");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

int main(int argc, char **argv) {
    const char *conf = argc > 1 && strcmp(argv[1], "stock") != 0 ? argv[1] : NULL;
    lua_State *observer = open_state("");
    double bytes = 0, arenas = 0, tcache = 0;
    int i;
    run(observer,
        "local J = require 'jemalloc'\n"
        "function read(name) J.mallctl_write('epoch', 1) return J.mallctl_read(name) end\n"
        "function tcache() local t = J.tcache() local id = t:id() t:release() return id end");
    for (i = 0; i < 12; ++i) {
        lua_State *L = open_state(conf);
        run(L, tenant);
        (i % 2 == 0 ? jemalloc_lua_close : lua_close)(L);
        lua_gc(observer, LUA_GCCOLLECT, 0);
        if (i == 3) {
            bytes = number(observer, "stats.allocated");
            arenas = number(observer, "arenas.narenas");
            run(observer, "before = tcache()");
        }
    }
    bytes = number(observer, "stats.allocated") - bytes;
    arenas = number(observer, "arenas.narenas") - arenas;
    run(observer, "after = tcache() - before");
    lua_getglobal(observer, "after");
    tcache = lua_tonumber(observer, -1);
    lua_settop(observer, 0);
    printf("8 states on %s left %.0f bytes, %.0f arenas and some %.0f tcaches\n",
           conf ? conf : "LuaJIT's allocator", bytes, arenas, tcache);
    jemalloc_lua_close(observer);
    return bytes > 1e5 || arenas > 0 || tcache > 20;
}
