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

# ---- The tarball: that of JEMALLOC_LUA_TARBALL, or the first of the table that the cache has.
set(table "${CMAKE_CURRENT_LIST_DIR}/jemalloc-versions")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${table}")
file(STRINGS "${table}" lines REGEX "^[0-9]")
if(JEMALLOC_LUA_JEMALLOC_VERSION)
  list(FILTER lines INCLUDE REGEX "^${JEMALLOC_LUA_JEMALLOC_VERSION} ")
  if(NOT lines)
    message(FATAL_ERROR "JEMALLOC_LUA_JEMALLOC_VERSION is '${JEMALLOC_LUA_JEMALLOC_VERSION}'; it takes a version of "
                        "tools/cmake/jemalloc-versions, or nothing")
  endif()
endif()
set(cache "$ENV{XDG_CACHE_HOME}")
if(NOT cache)
  set(cache "$ENV{HOME}/.cache")
endif()
set(given "${JEMALLOC_LUA_TARBALL}")
if(NOT given)
  set(given "$ENV{JEMALLOC_LUA_TARBALL}")
endif()

set(tarball "")
foreach(line IN LISTS lines)
  string(REPLACE " " ";" line "${line}")
  list(GET line 0 jemalloc_version)
  list(GET line 1 sha256)
  list(GET line 2 name)
  list(GET line 4 full_version)
  set(file "${given}")
  if(NOT file OR NOT EXISTS "${file}")
    set(file "${cache}/jemalloc_lua/${name}")
  endif()
  if(EXISTS "${file}")
    file(SHA256 "${file}" hash)
    if(hash STREQUAL sha256)
      set(tarball "${file}")
      break()
    endif()
    list(APPEND wrong "${file}")
  endif()
endforeach()
if(wrong AND NOT tarball)
  list(REMOVE_DUPLICATES wrong)
  message(FATAL_ERROR "${wrong}: no tarball of jemalloc that tools/cmake/jemalloc-versions knows, by its SHA-256: "
                      "remove the file and run tools/setup")
elseif(NOT tarball)
  message(FATAL_ERROR "jemalloc's tarball is missing: run tools/setup, or give it by "
                      "-DJEMALLOC_LUA_TARBALL=FILE (${name}), or build with -DJEMALLOC_LUA_JEMALLOC=system")
endif()
set(JEMALLOC_LUA_TARBALL_FOUND "${tarball}")
message(STATUS "Bundled jemalloc: ${jemalloc_version}")

# Without cache_oblivious, which adds a page to each large region, slabs lie side by side and their pages go
# back together. A request is served from a free extent of any size: by default of 64 times its size at most, so
# that small blocks which were freed together, and became one extent, served none of their kind. Built once for all
# presets: the folder's name tells compiler and arguments apart.
find_program(MAKE_PROGRAM NAMES gmake make REQUIRED)
set(arguments --with-jemalloc-prefix=je_ --with-malloc-conf=lg_extent_max_active_fit:30 --without-export
    --disable-initial-exec-tls --enable-prof --disable-cxx --disable-shared --disable-cache-oblivious "CFLAGS=-g -O3 -fPIC -fvisibility=hidden")
if(CMAKE_CROSSCOMPILING)
  list(APPEND arguments --host=${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
endif()
if(NOT full_version STREQUAL "-")
  find_program(AUTOCONF_PROGRAM autoconf)
  if(NOT AUTOCONF_PROGRAM)
    message(FATAL_ERROR "${tarball} has no configure script, and autoconf, which makes it, is missing: install "
                        "autoconf, or give the release's ${jemalloc_version} by -DJEMALLOC_LUA_TARBALL=FILE")
  endif()
  list(APPEND arguments --with-version=${full_version})
endif()
if(JEMALLOC_LUA_LG_PAGE)
  list(APPEND arguments --with-lg-page=${JEMALLOC_LUA_LG_PAGE})
endif()
string(SHA256 key "${CMAKE_C_COMPILER};${arguments}")
string(SUBSTRING "${key}" 0 8 key)
set(folder "${JEMALLOC_LUA_DEPS_DIR}/jemalloc-${jemalloc_version}-${key}")
set(output "${PROJECT_BINARY_DIR}/jemalloc")
set(JEMALLOC_LUA_JEMALLOC_OBJECT "${output}/jemalloc.o")
set(JEMALLOC_LUA_JEMALLOC_SOURCE "${folder}/source")
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
