# The target jemalloc_lua_jemalloc: the jemalloc that this build runs on.
#
# bundled: built from the release tarball, which is verified by its hash, with a prefix of our own and its
# symbols hidden, so that the host's malloc is left alone and nothing clashes. The tarball is looked for in
# JEMALLOC_LUA_TARBALL (CMake or environment) and in the cache that tools/setup fills.

add_library(jemalloc_lua_jemalloc INTERFACE)

if(JEMALLOC_LUA_JEMALLOC STREQUAL "system")
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(JEMALLOC REQUIRED IMPORTED_TARGET GLOBAL jemalloc)
  target_link_libraries(jemalloc_lua_jemalloc INTERFACE PkgConfig::JEMALLOC)
  return()
elseif(NOT JEMALLOC_LUA_JEMALLOC STREQUAL "bundled")
  message(FATAL_ERROR "JEMALLOC_LUA_JEMALLOC is '${JEMALLOC_LUA_JEMALLOC}'; it takes bundled or system")
endif()

set(jemalloc_version 5.3.0)
set(jemalloc_sha256 2db82d1e7119df3e71b7640219b6dfe84789bc0537983c3b7ac4f7189aecfeaa)

set(cache "$ENV{XDG_CACHE_HOME}")
if(NOT cache)
  set(cache "$ENV{HOME}/.cache")
endif()
set(tarball "")
foreach(file "${JEMALLOC_LUA_TARBALL}" "$ENV{JEMALLOC_LUA_TARBALL}"
        "${cache}/jemalloc_lua/jemalloc-${jemalloc_version}.tar.bz2")
  if(file AND EXISTS "${file}")
    set(tarball "${file}")
    break()
  endif()
endforeach()
if(NOT tarball)
  message(FATAL_ERROR "jemalloc's tarball is missing: run tools/setup, or give it by "
                      "-DJEMALLOC_LUA_TARBALL=FILE (jemalloc-${jemalloc_version}.tar.bz2), or build with "
                      "-DJEMALLOC_LUA_JEMALLOC=system")
endif()
file(SHA256 "${tarball}" hash)
if(NOT hash STREQUAL jemalloc_sha256)
  message(FATAL_ERROR "${tarball} is not jemalloc ${jemalloc_version}: its SHA-256 is ${hash}, "
                      "not ${jemalloc_sha256}")
endif()

# Without cache_oblivious, which adds a page to each large region, slabs lie side by side and their pages go
# back together. Built once for all presets: the folder's name tells compiler and arguments apart.
find_program(MAKE_PROGRAM NAMES gmake make REQUIRED)
set(arguments --with-jemalloc-prefix=je_ --without-export --disable-initial-exec-tls --enable-prof --disable-cxx
    --disable-shared --disable-cache-oblivious "CFLAGS=-g -O3 -fPIC -fvisibility=hidden")
if(CMAKE_CROSSCOMPILING)
  list(APPEND arguments --host=${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
endif()
if(JEMALLOC_LUA_LG_PAGE)
  list(APPEND arguments --with-lg-page=${JEMALLOC_LUA_LG_PAGE})
endif()
string(SHA256 key "${CMAKE_C_COMPILER};${arguments}")
string(SUBSTRING "${key}" 0 8 key)
set(folder "${JEMALLOC_LUA_DEPS_DIR}/jemalloc-${jemalloc_version}-${key}")
set(output "${PROJECT_BINARY_DIR}/jemalloc")
set(JEMALLOC_LUA_JEMALLOC_OBJECT "${output}/jemalloc.o")
set(JEMALLOC_LUA_JEMALLOC_COPYING "${folder}/source/COPYING")
add_custom_command(
  OUTPUT "${JEMALLOC_LUA_JEMALLOC_OBJECT}" "${output}/libjemalloc.a"
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/build-jemalloc "${tarball}" "${folder}" "${output}" "${MAKE_PROGRAM}"
          "${CMAKE_C_COMPILER}" ${arguments}
  COMMENT "jemalloc ${jemalloc_version}" VERBATIM)
add_custom_target(jemalloc_build DEPENDS "${JEMALLOC_LUA_JEMALLOC_OBJECT}")
file(MAKE_DIRECTORY "${folder}/include")

add_library(jemalloc_lua_bundled STATIC IMPORTED GLOBAL)
set_target_properties(jemalloc_lua_bundled PROPERTIES
  IMPORTED_LOCATION "${output}/libjemalloc.a"
  INTERFACE_INCLUDE_DIRECTORIES "${folder}/include")
add_dependencies(jemalloc_lua_bundled jemalloc_build)
target_link_libraries(jemalloc_lua_jemalloc INTERFACE jemalloc_lua_bundled)
