# Run by CPack on what was installed for each component, before it becomes a package: strips it, finds what it
# depends on, and adds the files that Debian asks of a package and a plain installation has no use for.

set(source "${CPACK_JEMALLOC_LUA_SOURCE}")
set(prefix "${CPACK_PACKAGING_INSTALL_PREFIX}")

# The text of a licence as a field of Debian's copyright format: indented, with a dot for an empty line.
function(licence_field file heading out)
  file(READ "${file}" text)
  string(REGEX REPLACE "${heading}" "" text "${text}")
  string(REGEX REPLACE "\n-+\n*$" "" text "${text}")
  string(STRIP "${text}" text)
  string(REPLACE "\n\n" "\n.\n" text "${text}")
  string(REPLACE "\n" "\n " text "${text}")
  set(${out} " ${text}" PARENT_SCOPE)
endfunction()
licence_field("${source}/LICENSE" "^MIT License\n+Copyright[^\n]*\n" our_licence)
licence_field("${CPACK_JEMALLOC_LUA_JEMALLOC_COPYING}" "^.*\nCopyright \\(C\\) [^\n]*\n+" jemalloc_licence)
file(STRINGS "${source}/LICENSE" our_holder REGEX "^Copyright" LIMIT_COUNT 1)
file(STRINGS "${CPACK_JEMALLOC_LUA_JEMALLOC_COPYING}" jemalloc_holders REGEX "^Copyright")
foreach(holders our_holder jemalloc_holders)
  list(TRANSFORM ${holders} REPLACE "^Copyright( \\([cC]\\))? | *All rights reserved\\.$" "")
  list(TRANSFORM ${holders} REPLACE ">\\.$" ">")
  list(JOIN ${holders} "\n " ${holders})
endforeach()

set(copyright
"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: luajit-jemalloc
Comment: jemalloc is built into the binaries and is no part of this source.

Files: *
Copyright: ${our_holder}
License: Expat
${our_licence}

Files: jemalloc
Copyright: ${jemalloc_holders}
License: BSD-2-clause
${jemalloc_licence}
")

string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
set(changelog
"${CPACK_PACKAGE_NAME} (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium

  * Release ${CPACK_PACKAGE_VERSION}.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")

# Lintian's warnings that are meant to be.
set(overrides_all "# Made by and for its users; Debian has no bug about it.\ninitial-upload-closes-no-bugs")
set(overrides_tools
"# The shim is loaded by LD_PRELOAD, by this very name: no program links it, so that it needs no version.
shared-library-lacks-version usr/lib/*/libjemalloc_lua_preload.so *
package-name-doesnt-match-sonames libjemalloc-lua-preload")

set(overrides_dev
"# README.md refers to it by this name.
wrong-name-for-upstream-changelog *CHANGELOG.md*")

# dpkg-shlibdeps wants to be in a source package.
file(WRITE "${CPACK_TEMPORARY_DIRECTORY}/debian/control" "")

foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} name)
  set(package "${CPACK_DEBIAN_${name}_PACKAGE_NAME}")
  set(root "${CPACK_TEMPORARY_DIRECTORY}/${component}")
  set(share "${root}${prefix}/share")

  file(WRITE "${share}/doc/${package}/copyright" "${copyright}")
  file(WRITE "${share}/doc/${package}/changelog.Debian" "${changelog}")
  execute_process(COMMAND gzip -9nf "${share}/doc/${package}/changelog.Debian" COMMAND_ERROR_IS_FATAL ANY)
  # Each package has its documents under its own name.
  if(EXISTS "${share}/doc/jemalloc_lua")
    file(GLOB documents "${share}/doc/jemalloc_lua/*")
    file(COPY ${documents} DESTINATION "${share}/doc/${package}")
    file(REMOVE_RECURSE "${share}/doc/jemalloc_lua")
  endif()
  file(GLOB pages "${share}/man/man*/*")
  if(pages)
    execute_process(COMMAND gzip -9nf ${pages} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  # Debian's zsh has a folder of its own for packages.
  if(EXISTS "${share}/zsh/site-functions")
    file(RENAME "${share}/zsh/site-functions" "${share}/zsh/vendor-completions")
  endif()
  file(WRITE "${share}/lintian/overrides/${package}" "${overrides_all}\n${overrides_${component}}\n")

  set(binaries "")
  file(GLOB_RECURSE files LIST_DIRECTORIES FALSE "${root}/*")
  foreach(file IN LISTS files)
    if(IS_SYMLINK "${file}")
      continue()
    endif()
    file(READ "${file}" magic LIMIT 8 HEX)
    if(magic MATCHES "^7f454c46") # \x7fELF
      list(APPEND binaries "${file}")
      execute_process(COMMAND strip --strip-unneeded --remove-section=.comment --remove-section=.note "${file}"
                      COMMAND_ERROR_IS_FATAL ANY)
    elseif(magic STREQUAL "213c617263683e0a") # !<arch>\n
      execute_process(COMMAND strip --strip-debug --remove-section=.comment --enable-deterministic-archives
                      "${file}" COMMAND_ERROR_IS_FATAL ANY)
    elseif(magic MATCHES "^2321") # #!
      execute_process(COMMAND sed -i "1s|^#!/usr/bin/env python3|#!/usr/bin/python3|" "${file}"
                      COMMAND_ERROR_IS_FATAL ANY)
    endif()
  endforeach()

  # Our own library is in no package that is installed: its dependency is stated by hand.
  if(binaries)
    execute_process(
      COMMAND dpkg-shlibdeps -O --ignore-missing-info
              "-l${CPACK_TEMPORARY_DIRECTORY}/runtime${prefix}/${CPACK_JEMALLOC_LUA_LIBDIR}" ${binaries}
      WORKING_DIRECTORY "${CPACK_TEMPORARY_DIRECTORY}" OUTPUT_VARIABLE depends OUTPUT_STRIP_TRAILING_WHITESPACE
      COMMAND_ERROR_IS_FATAL ANY)
    string(REPLACE "shlibs:Depends=" "" depends "${depends}")
    list(PREPEND depends ${CPACK_DEBIAN_${name}_PACKAGE_DEPENDS})
    list(JOIN depends ", " CPACK_DEBIAN_${name}_PACKAGE_DEPENDS)
  endif()
endforeach()
