// The recording allocator, and its C interface.

#include "recorder.h"

#include <cerrno>
#include <new>

#include "record.h"

namespace jemalloc_lua::bench {

void *Recorder::alloc(void *recorder, void *block, std::size_t old_size, std::size_t new_size) {
    auto *self = static_cast<Recorder *>(recorder);
    const auto old_block = reinterpret_cast<std::uintptr_t>(block);  // the block may be gone after the call
    void *result = self->function_(self->ud_, block, old_size, new_size);
    if (new_size == 0) {
        if (old_block != 0) self->writer_.add_free(reinterpret_cast<void *>(old_block));
    } else if (result == nullptr) {
        return nullptr;
    } else if (old_block == 0) {
        self->writer_.add_malloc(result, new_size);
    } else {
        self->writer_.add_realloc(old_block, result, new_size);
    }
    return result;
}

}  // namespace jemalloc_lua::bench

using jemalloc_lua::bench::Recorder;

int jemalloc_lua_record_start(lua_State *L, const char *path) {
    void *ud = nullptr;
    const lua_Alloc function = lua_getallocf(L, &ud);
    if (function == Recorder::alloc) return EALREADY;
    auto *recorder = new (std::nothrow) Recorder(function, ud);
    if (recorder == nullptr) return ENOMEM;
    if (!recorder->open(path)) {
        const int error = errno;
        delete recorder;
        return error;
    }
    lua_setallocf(L, Recorder::alloc, recorder);
    return 0;
}

int jemalloc_lua_record_stop(lua_State *L) {
    void *ud = nullptr;
    if (lua_getallocf(L, &ud) != Recorder::alloc) return EINVAL;
    auto *recorder = static_cast<Recorder *>(ud);
    lua_setallocf(L, recorder->function(), recorder->ud());
    const int error = recorder->close() ? 0 : errno;
    delete recorder;
    return error;
}
