// A lua_Alloc that writes down each request and passes it on.
#pragma once

#include <lua.hpp>

#include "trace.h"

namespace jemalloc_lua::bench {

class Recorder {
  public:
    Recorder(lua_Alloc function, void *ud) : function_(function), ud_(ud) {}

    bool open(const char *path) { return writer_.open(path); }
    bool close() { return writer_.close(); }

    // The function to give to Lua, with the Recorder as its `ud`.
    static void *alloc(void *recorder, void *block, std::size_t old_size, std::size_t new_size);

    lua_Alloc function() const { return function_; }
    void *ud() const { return ud_; }

  private:
    lua_Alloc function_;
    void *ud_;
    TraceWriter writer_;
};

}  // namespace jemalloc_lua::bench
