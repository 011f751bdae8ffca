# What `cmake --install` puts in place for those who build on the library, and the documents, each in the folder that
# it has here.

include(CMakePackageConfigHelpers)

install(FILES ${PROJECT_SOURCE_DIR}/alloc/include/jemalloc_lua.h TYPE INCLUDE COMPONENT dev)
install(TARGETS jemalloc_lua jemalloc_lua_static EXPORT jemalloc_lua
        LIBRARY COMPONENT runtime NAMELINK_COMPONENT dev ARCHIVE COMPONENT dev)
install(EXPORT jemalloc_lua NAMESPACE jemalloc_lua:: FILE jemalloc_luaTargets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/jemalloc_lua COMPONENT dev)

configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/jemalloc_luaConfig.cmake.in ${PROJECT_BINARY_DIR}/jemalloc_luaConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/jemalloc_lua)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/jemalloc_luaConfigVersion.cmake
                                 COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/jemalloc_luaConfig.cmake
              ${PROJECT_BINARY_DIR}/jemalloc_luaConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/jemalloc_lua COMPONENT dev)

if(JEMALLOC_LUA_JEMALLOC STREQUAL "system")
  set(requires_private "Requires.private: jemalloc")
endif()
file(RELATIVE_PATH pc_to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/jemalloc_lua.pc.in ${PROJECT_BINARY_DIR}/jemalloc_lua.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/jemalloc_lua.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

foreach(each dev=README.md dev=CHANGELOG.md dev=CONTRIBUTING.md dev=bench/README.md
        dev=alloc/README.md dev=alloc/OPTIONS.md dev=alloc/LIMITS.md dev=alloc/SECURITY.md dev=alloc/RECIPES.md
        dev=alloc/observe/README.md module=binding/README.md module=binding/library/jemalloc.lua
        tools=binding/preload/README.md tools=tools/README.md)
  string(REPLACE "=" ";" each ${each})
  list(POP_FRONT each component file)
  cmake_path(GET file PARENT_PATH folder)
  install(FILES ${PROJECT_SOURCE_DIR}/${file} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/jemalloc_lua/${folder}
          COMPONENT ${component})
endforeach()
