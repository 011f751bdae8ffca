#include "inject.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unwind.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

#include "heap/heap.h"
#include "lua.hpp"
#include "system/jemalloc.h"

extern "C" lua_State *__real_lua_newstate(lua_Alloc f, void *ud);

namespace oom {
namespace {

// Programs under refusals are of one thread, and have one state at a time.
Refusal armed;
std::uint64_t count;
std::uint64_t refused;
bool paused;
std::uint64_t lua_requests;  // since the state was made
lua_Alloc state_alloc;       // the allocator function that refusing_alloc() stands before

void *refusing_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

// Where LuaJIT's interpreter begins: what its code calls has that code to go back to.
const void *interpreter;

int find_interpreter(lua_State *) {
    interpreter = _Unwind_FindEnclosingFunction(__builtin_return_address(0));
    return 0;
}

// Whether the request comes from a trace: code that belongs to no file is the compiler's. It is close by if
// it is there at all. What the interpreter asks for does not come from one, and above it are frames that
// can't be unwound.
bool from_compiled_code() {
    struct Search {
        bool found = false;
        int left = 0;  // frames to look at
    };
    const auto look = [](_Unwind_Context *context, void *ud) {
        auto *search = static_cast<Search *>(ud);
        auto *at = reinterpret_cast<void *>(_Unwind_GetIP(context));
        Dl_info file;
        const bool compiled = dladdr(at, &file) == 0;
        search->found = compiled && search->left > 0;
        // What compiled code itself calls, as functions of the module, can bear a refusal.
        if (compiled || search->left == 1) return _URC_END_OF_STACK;
        if (search->left > 0) --search->left;
        const void *function = _Unwind_FindEnclosingFunction(at);
        if (function == interpreter) return _URC_END_OF_STACK;
        if (function == reinterpret_cast<void *>(refusing_alloc)) search->left = 7;
        return _URC_NO_REASON;
    };
    Search search;
    _Unwind_Backtrace(look, &search);
    return search.found;
}

bool refuses(Point point) {
    if (paused || point != armed.point) return false;
    ++count;
    if (count < armed.nth || (refused > 0 && !armed.lasting)) return false;
    if (spare_compiled_code && from_compiled_code()) return false;
    ++refused;
    return true;
}

void *given_to(void *ud, void *ptr, std::size_t old_size, std::size_t new_size, bool asks) {
    const bool meant = armed.size == 0 || (ptr == nullptr && new_size == armed.size);
    if (asks && meant && refuses(Point::request)) {
        // As a heap that refuses knows that it did.
        if (ud != nullptr) static_cast<jemalloc_lua_heap *>(ud)->budget().refuse();
        return nullptr;
    }
    return state_alloc(ud, ptr, old_size, new_size);
}

void *refusing_alloc(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    const bool asks = new_size > (ptr == nullptr ? 0 : old_size);
    if (asks && !paused) ++lua_requests;
    void *given = given_to(ud, ptr, old_size, new_size, asks);
    const bool failed = asks && given == nullptr;
    if (failed && failed_request != nullptr && failed_request->number == 0) {
        *failed_request = {lua_requests, ptr == nullptr ? new_size : 0};
    }
    return given;
}

// In a state of its own, which no refusal is meant for.
void look_for_interpreter() {
    if (interpreter != nullptr) return;
    const auto plain = [](void *, void *ptr, std::size_t, std::size_t size) -> void * {
        if (size != 0) return std::realloc(ptr, size);
        std::free(ptr);
        return nullptr;
    };
    lua_State *L = __real_lua_newstate(plain, nullptr);
    if (L == nullptr || lua_cpcall(L, find_interpreter, nullptr) != 0 || interpreter == nullptr) std::abort();
    lua_close(L);
}

}  // namespace

void arm(Refusal refusal) {
    count = refused = 0;
    armed = refusal;
}

std::uint64_t disarm() {
    armed = {};
    return refused;
}

void pause() {
    paused = true;
}
void resume() {
    paused = false;
}

}  // namespace oom

// ---- What the linker puts in the place of the names without prefix

using oom::Point;
using oom::refuses;

extern "C" {

// The state's allocator function, with refusing_alloc() before it that no one sees.
lua_State *__wrap_lua_newstate(lua_Alloc f, void *ud) {
    oom::look_for_interpreter();
    oom::state_alloc = f;
    lua_State *L = __real_lua_newstate(oom::refusing_alloc, ud);
    oom::lua_requests = 0;
    return L;
}
lua_Alloc __real_lua_getallocf(lua_State *L, void **ud);
lua_Alloc __wrap_lua_getallocf(lua_State *L, void **ud) {
    const lua_Alloc f = __real_lua_getallocf(L, ud);
    return f == oom::refusing_alloc ? oom::state_alloc : f;
}
void __real_lua_setallocf(lua_State *L, lua_Alloc f, void *ud);
void __wrap_lua_setallocf(lua_State *L, lua_Alloc f, void *ud) {
    oom::state_alloc = f;
    __real_lua_setallocf(L, oom::refusing_alloc, ud);
}

void *__real_je_mallocx(std::size_t size, int flags);
void *__wrap_je_mallocx(std::size_t size, int flags) {
    return refuses(Point::jemalloc) ? nullptr : __real_je_mallocx(size, flags);
}
void *__real_je_rallocx(void *ptr, std::size_t size, int flags);
void *__wrap_je_rallocx(void *ptr, std::size_t size, int flags) {
    return refuses(Point::jemalloc) ? nullptr : __real_je_rallocx(ptr, size, flags);
}
std::size_t __real_je_xallocx(void *ptr, std::size_t size, std::size_t extra, int flags);
std::size_t __wrap_je_xallocx(void *ptr, std::size_t size, std::size_t extra, int flags) {
    if (refuses(Point::jemalloc)) return jemalloc_lua::je::sallocx(ptr, 0);
    return __real_je_xallocx(ptr, size, extra, flags);
}
int __real_je_mallctl(const char *name, void *old, std::size_t *old_size, void *now, std::size_t now_size);
int __wrap_je_mallctl(const char *name, void *old, std::size_t *old_size, void *now, std::size_t now_size) {
    if (std::strcmp(name, "arenas.create") == 0 && refuses(Point::arena)) return EAGAIN;
    if (std::strcmp(name, "tcache.create") == 0 && refuses(Point::tcache)) return EFAULT;
    return __real_je_mallctl(name, old, old_size, now, now_size);
}

void *__real_mmap(void *at, std::size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, std::size_t size, int protection, int flags, int file, off_t offset) {
    if (!refuses(Point::mmap)) return __real_mmap(at, size, protection, flags, file, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}
void *__real_mremap(void *from, std::size_t old_size, std::size_t new_size, int flags, ...);
void *__wrap_mremap(void *from, std::size_t old_size, std::size_t new_size, int flags, ...) {
    if (refuses(Point::mremap)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    va_list rest;
    va_start(rest, flags);
    void *to = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void *) : nullptr;
    va_end(rest);
    return __real_mremap(from, old_size, new_size, flags, to);
}

}  // extern "C"
