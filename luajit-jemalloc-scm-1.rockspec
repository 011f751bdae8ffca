-- `luarocks --lua-version 5.1 make` builds the Lua module `jemalloc` and installs it: LuaRocks for another Lua
-- would look for the headers of that one. It needs what the whole build needs, which tools/setup gets: CMake, a C++
-- compiler, LuaJIT's headers, jemalloc's tarball; it reaches for no network.
rockspec_format = "3.0"
package = "luajit-jemalloc"
version = "scm-1"
source = {
    url = "git+file://.",
}
description = {
    summary = "jemalloc from LuaJIT",
    detailed = [[jemalloc's functions and its whole MALLCTL NAMESPACE, buffers outside of the collected heap,
arenas and tcaches as objects.]],
    license = "MIT",
    labels = { "luajit", "ffi", "memory" },
}
dependencies = {
    "lua == 5.1",
}
build = {
    type = "command",
    -- LuaRocks sets CC, but not CXX: without both, the two come from the same place.
    build_command = [[
unset CC && cmake -B build/luarocks -DCMAKE_BUILD_TYPE=Release \
      -DJEMALLOC_LUA_DEPS_DIR="${JEMALLOC_LUA_DEPS_DIR:-build/deps}" \
      -DJEMALLOC_LUA_BUILD_TOOLS=OFF -DJEMALLOC_LUA_BUILD_BENCH=OFF -DJEMALLOC_LUA_BUILD_TESTS=OFF &&
cmake --build build/luarocks --target jemalloc_lua_module --parallel 4]],
    install = {
        lib = {
            jemalloc = "build/luarocks/binding/jemalloc.so",
        },
    },
}
