# What all our own targets share: the language, warnings, sanitizers; and how a test is added.

# C++'s run-time library by its name, for those that link the archive by a compiler of C.
set(jemalloc_lua_cxx_runtime ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER jemalloc_lua_cxx_runtime INCLUDE REGEX "^(stdc|c)[+][+]$")
list(REMOVE_DUPLICATES jemalloc_lua_cxx_runtime)

# Settings of a target of ours; nothing of it reaches those who link us.
function(jemalloc_lua_settings target)
  target_compile_features(${target} PRIVATE cxx_std_20 c_std_99)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS ON CXX_VISIBILITY_PRESET hidden C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic $<$<BOOL:${JEMALLOC_LUA_WERROR}>:-Werror>)
  if(JEMALLOC_LUA_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${JEMALLOC_LUA_SANITIZE} -fno-sanitize-recover=all
                           -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${JEMALLOC_LUA_SANITIZE})
  endif()
endfunction()

# jemalloc_lua_add_test(name source...): a GoogleTest program on the static library and LuaJIT.
function(jemalloc_lua_add_test name)
  add_executable(${name} ${ARGN})
  jemalloc_lua_settings(${name})
  target_link_libraries(${name} PRIVATE jemalloc_lua_static PkgConfig::LUAJIT GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
endfunction()
