// Closing a state without a visit to each of its objects.
//
// lua_close() runs the finalizers, then walks LuaJIT's list of all objects, the newest first, and frees each
// (lj_gc_freeall() in lj_gc.c): two calls and a cache miss an object. For a heap whose memory goes as a whole
// that walk is useless, and this class cuts it short. A sentinel is put on the list: a table that the
// collector leaves alone. When the sentinel is freed after all, the finalizers have run, no Lua code runs any
// more, and the walk is on. The object after the sentinel is then made to point to the main thread, the
// oldest object. Behind the main thread is userdata, which LuaJIT still frees, as well as what is on other
// lists or on none: strings, the code of traces, callbacks of the FFI.
//
// layout.h tells what this takes for granted of LuaJIT. All of it is verified at each close; where anything
// differs, nothing is cut.
#pragma once

#include <cstddef>
#include <cstdint>

#include "luajit/layout.h"

namespace jemalloc_lua::luajit {

class SweepCut {
  public:
    // Before lua_close(), when the state has the allocator function that will see the sentinel: puts it on
    // the list. `state` is the main thread, `block` the memory of LuaJIT's GG_State that holds it.
    void prepare(lua_State *state, void *block, std::size_t block_size);

    // At each free meanwhile. True: this block is the sentinel, cut() may be called.
    bool is_sentinel(const void *ptr) {
        // A LuaJIT built with assertions expects that at the end the state's block alone is live. Its count
        // does not fall for the objects that were left out, so it is set here.
        if (total_ != nullptr) [[unlikely]]
            *total_ = block_size_;
        return ptr == sentinel_ && ptr != nullptr;
    }

    void cut();

  private:
    static int put_sentinel(lua_State *L);

    Object *sentinel_ = nullptr;
    lua_State *state_ = nullptr;
    std::uint64_t *found_total_ = nullptr;
    std::uint64_t *total_ = nullptr;  // the collector's count of live bytes, once the sweep was cut
    std::size_t block_size_ = 0;
};

}  // namespace jemalloc_lua::luajit
