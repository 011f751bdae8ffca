# Writes a C++ header with the Lua files of the module as text, in the order in which they run.
# usage: cmake -DOUTPUT=sources.h -DFOLDER=binding/lua -DNAMES=names,core -P embed.cmake
string(REPLACE "," ";" names "${NAMES}")
set(arrays "")
set(entries "")
foreach(name IN LISTS names)
    file(READ "${FOLDER}/${name}.lua" bytes HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND arrays "inline constexpr unsigned char ${name}_lua[] = {${bytes}};\n")
    string(APPEND entries "    {\"@jemalloc/${name}.lua\", reinterpret_cast<const char *>(${name}_lua), sizeof ${name}_lua},\n")
endforeach()
file(WRITE "${OUTPUT}" "// Made from binding/lua/ by embed.cmake.
#pragma once

#include <cstddef>

namespace jemalloc_lua {

struct Source {
    const char *name;
    const char *text;
    std::size_t length;
};

${arrays}
inline const Source sources[] = {
${entries}};

}  // namespace jemalloc_lua
")
