// Closing a state without a visit to each of its objects.
//
// lua_close() runs the finalizers, then walks LuaJIT's list of all objects, the newest first, and frees each
// (lj_gc_freeall() in lj_gc.c): two calls and a cache miss an object. For a heap whose memory goes as a whole
// that walk is for nothing, and this cuts it short. A mark is put on the list: a table that the collector
// takes for one that it must leave alone (LJ_GC_FIXED). When it is freed after all, the finalizers have run,
// no Lua code runs any more, and the walk is on. The object after it is then made to point to the main
// thread, the first object that there ever was. Behind that is userdata, which LuaJIT frees as ever, and
// so it does with all that is on no list or another: strings, the code of traces, callbacks of the FFI.
//
// What this takes for granted of LuaJIT's objects (GCHeader and global_State in lj_obj.h) has been so in all
// of its 2.1 with 64 bit references, and is verified each time: where anything is different, nothing is cut.
#pragma once

#include <cstddef>
#include <cstdint>

#include "jemalloc_lua.h"

namespace jemalloc_lua {

class SweepCut {
  public:
    // Before lua_close(), when the heap has the allocator function that will see it: puts the mark. `state`
    // is the main thread, `block` what LuaJIT keeps it in (GG_State).
    void prepare(lua_State *state, void *block, std::size_t block_size);

    // At each free meanwhile. True: this is the mark, cut() may be called.
    bool is_mark(const void *ptr) {
        // LuaJIT built with assertions counts to the end, and what was skipped is missing.
        if (total_ != nullptr) [[unlikely]]
            *total_ = block_size_;
        return ptr == mark_ && ptr != nullptr;
    }

    void cut();

  private:
    struct Object;

    static int put_mark(lua_State *L);

    Object *mark_ = nullptr;
    lua_State *state_ = nullptr;
    std::uint64_t *found_total_ = nullptr;
    std::uint64_t *total_ = nullptr;  // the collector's count of live bytes, once the sweep was cut
    std::size_t block_size_ = 0;
};

}  // namespace jemalloc_lua
