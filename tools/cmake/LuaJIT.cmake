# The one place that finds a LuaJIT: the target PkgConfig::LUAJIT and the command LUAJIT_PROGRAM, from the
# luajit.pc that pkg-config finds; tools/cmake/find-luajit writes one for a LuaJIT that lies anywhere.
#
# What is found belongs together, or configuring ends with what differs: a linker takes another LuaJIT in silence
# where luajit.pc names a library that isn't there.

find_package(PkgConfig REQUIRED)
pkg_check_modules(LUAJIT REQUIRED IMPORTED_TARGET GLOBAL luajit)
pkg_get_variable(luajit_libdir luajit libdir)
pkg_get_variable(luajit_prefix luajit prefix)
pkg_get_variable(luajit_command luajit command)

# ---- The library is where luajit.pc has it
list(GET LUAJIT_LINK_LIBRARIES 0 luajit_library)
cmake_path(GET luajit_library PARENT_PATH luajit_folder)
if(luajit_libdir AND NOT CMAKE_CROSSCOMPILING)
  file(REAL_PATH "${luajit_libdir}" luajit_real_libdir)
  file(REAL_PATH "${luajit_folder}" luajit_real_folder)
  if(NOT luajit_real_folder STREQUAL luajit_real_libdir)
    message(FATAL_ERROR "luajit.pc is wrong: its library is not in ${luajit_libdir}, and the linker would take "
                        "${luajit_library}; tools/test --luajit ${luajit_prefix} finds the right one")
  endif()
endif()

# ---- The command: the one of luajit.pc, else the one beside it, else what is on the PATH
if(luajit_command)
  set(LUAJIT_PROGRAM "${luajit_command}" CACHE FILEPATH "The command of the LuaJIT that this build is for")
else()
  find_program(LUAJIT_PROGRAM NAMES luajit HINTS "${luajit_prefix}/bin")
endif()

# ---- The three are of one version
if(CMAKE_CROSSCOMPILING)
  return()
endif()
set(luajit_key "${luajit_library};${LUAJIT_INCLUDE_DIRS};${LUAJIT_PROGRAM}")
if(luajit_key STREQUAL JEMALLOC_LUA_LUAJIT_CHECKED)
  return()
endif()
try_run(luajit_status luajit_compiled ${PROJECT_BINARY_DIR}/luajit ${CMAKE_CURRENT_LIST_DIR}/luajit_version.c
        LINK_LIBRARIES PkgConfig::LUAJIT m ${CMAKE_DL_LIBS}
        COMPILE_OUTPUT_VARIABLE luajit_messages RUN_OUTPUT_VARIABLE luajit_versions)
if(NOT luajit_compiled OR NOT luajit_status EQUAL 0)
  message(FATAL_ERROR "no program can be built with LuaJIT (${luajit_library}):\n${luajit_messages}${luajit_versions}")
endif()
string(REGEX MATCH "header: ([^\n]*)\nlibrary: ([^\n]*)\n" luajit_match "${luajit_versions}")
set(luajit_header_version "${CMAKE_MATCH_1}")
set(luajit_library_version "${CMAKE_MATCH_2}")
set(luajit_wrong "")
if(NOT luajit_header_version STREQUAL luajit_library_version)
  set(luajit_wrong "the header's (${LUAJIT_INCLUDE_DIRS}) is ${luajit_header_version}")
elseif(LUAJIT_PROGRAM)
  execute_process(COMMAND ${LUAJIT_PROGRAM} -e "print(jit.version)" OUTPUT_VARIABLE luajit_command_version
                  ERROR_VARIABLE luajit_command_version OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT luajit_command_version STREQUAL luajit_library_version)
    set(luajit_wrong "the command's (${LUAJIT_PROGRAM}) is ${luajit_command_version}")
  endif()
endif()
if(luajit_wrong)
  message(FATAL_ERROR "these are not of one LuaJIT: the library's version (${luajit_library}) is "
                      "${luajit_library_version}, ${luajit_wrong}; tools/test --luajit DIR takes one LuaJIT")
endif()
message(STATUS "LuaJIT: ${luajit_library}, ${luajit_library_version}")
set(JEMALLOC_LUA_LUAJIT_CHECKED "${luajit_key}" CACHE INTERNAL "The LuaJIT that was found to be of one version")
