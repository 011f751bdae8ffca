#include "heap/front.h"

namespace jemalloc_lua {

const Front &front_for(const Options &options) {
    if (options.front != JEMALLOC_LUA_FRONT_SLAB) return direct_front;
    return options.harden != 0 ? hardened_front : slab_front;
}

bool is_front(lua_Alloc f) {
    return f == slab_front.alloc || f == hardened_front.alloc || f == direct_front.alloc;
}

}  // namespace jemalloc_lua
