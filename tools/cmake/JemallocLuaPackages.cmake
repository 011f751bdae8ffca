# The Debian packages that tools/package builds with CPack: one for each component of `cmake --install`.
#
#   runtime  libjemalloc-lua1     the shared library, named after its SONAME
#   dev      libjemalloc-lua-dev  header, archive, pkg-config and CMake files
#   module   lua-jemalloc         the Lua module for stock interpreters
#   tools    jemalloc-luajit      the command, the preload shim, with-jemalloc, and what shows statistics
#
# DebianFiles.cmake adds what only a package has: dependencies, copyright, changelog, lintian's overrides.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME jemalloc-lua)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each has its own
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL runtime dev module tools)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/DebianFiles.cmake)
set(CPACK_JEMALLOC_LUA_LIBDIR ${CMAKE_INSTALL_LIBDIR})
set(CPACK_JEMALLOC_LUA_SOURCE ${PROJECT_SOURCE_DIR})
set(CPACK_JEMALLOC_LUA_JEMALLOC_COPYING ${JEMALLOC_LUA_JEMALLOC_COPYING})

# The maintainer of a package is whoever builds it, by the variables of Debian's own tools.
set(name "$ENV{DEBFULLNAME}")
set(mail "$ENV{DEBEMAIL}")
if(NOT name OR NOT mail)
  set(name "Local build")
  cmake_host_system_information(RESULT mail QUERY FQDN)
  string(PREPEND mail "nobody@")
endif()
set(CPACK_PACKAGE_CONTACT "${name} <${mail}>")

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(version ${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})

# deb(component package section depends title text)
function(deb component package section depends title text)
  string(TOUPPER ${component} name)
  foreach(setting "PACKAGE_NAME ${package}" "PACKAGE_SECTION ${section}"
          "PACKAGE_DEPENDS ${depends}" "DESCRIPTION ${title}\n${text}")
    string(REGEX MATCH "^([A-Z_]+) (.*)$" match "${setting}")
    set(CPACK_DEBIAN_${name}_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}" PARENT_SCOPE)
  endforeach()
endfunction()

set(library libjemalloc-lua${PROJECT_VERSION_MAJOR})
deb(runtime ${library} libs "" "Lua states whose memory is a jemalloc heap of their own"
"A host that embeds LuaJIT calls jemalloc_lua_newstate() where it called
luaL_newstate(). Each state then is a heap of its own, with its own arena,
limit and statistics, and its memory goes back to the system after a peak.
.
jemalloc is inside, under names of its own; the host's malloc is left alone.")

deb(dev libjemalloc-lua-dev libdevel "${library} (= ${version}), libluajit2-5.1-dev | libluajit-5.1-dev"
    "Lua states on jemalloc, for development"
"A host that embeds LuaJIT calls jemalloc_lua_newstate() where it called
luaL_newstate(). Each state then is a heap of its own, with its own arena,
limit and statistics, and its memory goes back to the system after a peak.
.
This package has the header, the static library, and what pkg-config and
CMake need to find them.")

deb(module lua-jemalloc interpreters "" "jemalloc for LuaJIT"
"The Lua module jemalloc: jemalloc's functions and its whole mallctl
namespace, buffers outside of the collected heap, and arenas and thread caches
as objects, by LuaJIT's FFI.")

deb(tools jemalloc-luajit interpreters "${library} (= ${version}), python3" "LuaJIT interpreter whose memory is a jemalloc heap"
"A command like luajit whose state is a jemalloc heap: with a memory limit,
statistics, and memory that goes back to the system after a peak.
.
with-jemalloc runs unmodified programs that embed LuaJIT, such as nginx and
Neovim, with their Lua states on such heaps. jemalloc-lua-top and
jemalloc-lua-metrics show the states of running processes.")
set(CPACK_DEBIAN_MODULE_PACKAGE_ENHANCES "luajit2, luajit")

# What lies in folders of the architecture can be installed for several of them. The command can't, and counts for no
# other architecture, since its shim loads into no process of one. CMake 3.25 has no variable for the field: it goes in
# after the section's.
if(CMAKE_LIBRARY_ARCHITECTURE AND CMAKE_INSTALL_LIBDIR MATCHES "/${CMAKE_LIBRARY_ARCHITECTURE}$")
  foreach(name RUNTIME DEV MODULE)
    string(APPEND CPACK_DEBIAN_${name}_PACKAGE_SECTION "\nMulti-Arch: same")
  endforeach()
endif()

# What programs that link the library depend on: one that has the SONAME and is not older.
set(files ${PROJECT_BINARY_DIR}/debian)
file(WRITE ${files}/shlibs "libjemalloc_lua ${PROJECT_VERSION_MAJOR} ${library} (>= ${PROJECT_VERSION})\n")
file(WRITE ${files}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${files}/shlibs ${files}/triggers)
set(CPACK_DEBIAN_TOOLS_PACKAGE_CONTROL_EXTRA ${files}/triggers)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

include(CPack)
