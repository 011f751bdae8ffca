// Backtraces for jemalloc's heap profiles (opt.prof), through LuaJIT's compiled code.
//
// jemalloc unwinds by libgcc. Compiled code of LuaJIT has no unwind information from which the frame above it
// could be found, and libgcc ends the process over some of it (abort() in _Unwind_Backtrace). So this hook
// stops at the first frame that lies in no file. A profile names the C functions up to LuaJIT's compiled
// code, which is then its last frame. The frames of this library and of jemalloc, which jeprof would take for
// those who asked, are left out, unless LuaJIT is linked into the same file. jemalloc has the hook
// since 5.3.0 (experimental.hooks.prof_backtrace).

#include <dlfcn.h>
#include <unwind.h>

#include <algorithm>

#include "system/jemalloc.h"

namespace jemalloc_lua::je {
namespace {

struct Walk {
    void **frames;
    unsigned count;
    unsigned max;
    unsigned own;          // the first frames, all in the hook's own file
    const void *own_file;  // null at the first frame
};

_Unwind_Reason_Code step(_Unwind_Context *context, void *data) {
    Walk &walk = *static_cast<Walk *>(data);
    void *at = reinterpret_cast<void *>(_Unwind_GetIP(context));
    if (at == nullptr || walk.count == walk.max) return _URC_END_OF_STACK;
    Dl_info file;
    const bool is_in_a_file = dladdr(at, &file) != 0;
    if (walk.count == 0) walk.own_file = is_in_a_file ? file.dli_fbase : nullptr;
    if (is_in_a_file && walk.own == walk.count && file.dli_fbase == walk.own_file) ++walk.own;
    walk.frames[walk.count++] = at;
    return is_in_a_file ? _URC_NO_REASON : _URC_END_OF_STACK;
}

void backtrace(void **frames, unsigned *count, unsigned max) {
    Walk walk{frames, 0, max, 0, nullptr};
    _Unwind_Backtrace(step, &walk);
    const unsigned left_out = walk.own < walk.count ? walk.own : 0;
    std::copy(frames + left_out, frames + walk.count, frames);
    *count = walk.count - left_out;
}

// Where jemalloc is the host's, it may have a hook of its own.
[[gnu::constructor(101)]] void install() {
    using Hook = void (*)(void **, unsigned *, unsigned);
    if (!read<bool>("opt.prof")) return;
    Hook hook = backtrace;
    mallctl("experimental.hooks.prof_backtrace", nullptr, nullptr, &hook, sizeof hook);
}

}  // namespace
}  // namespace jemalloc_lua::je
