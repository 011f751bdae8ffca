// mimalloc and tcmalloc, loaded so that malloc of the process stays as it was.
//
// Both libraries define malloc. Under dlopen with RTLD_LOCAL nobody but us sees those names, and with
// RTLD_DEEPBIND the libraries' own calls stay inside. Whether that held is checked after loading.

#include "peers.h"

#include <dlfcn.h>

#include <cstdlib>

namespace jemalloc_lua::bench {
namespace {

class PlainHeap final : public Heap {
  public:
    explicit PlainHeap(lua_Alloc function) { alloc = function; }
};

// A state on a heap of the same life.
class HeapState final : public State {
  public:
    explicit HeapState(std::unique_ptr<Heap> heap) : heap_(std::move(heap)) {
        L = lua_newstate(heap_->alloc, heap_->ud);
    }
    ~HeapState() override {
        if (L != nullptr) lua_close(L);
    }

  private:
    std::unique_ptr<Heap> heap_;
};

std::unique_ptr<State> state_on(std::unique_ptr<Heap> heap) {
    auto state = std::make_unique<HeapState>(std::move(heap));
    return state->L == nullptr ? nullptr : std::move(state);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;  // sanitizers refuse RTLD_DEEPBIND
#else
constexpr bool sanitized = false;
#endif

void *load(const char *library, std::string &why) {
    if (sanitized) {
        why = "not loaded under a sanitizer";
        return nullptr;
    }
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (handle == nullptr) why = dlerror();
    return handle;
}

// Sets a pointer to a function of the library.
template <class Function>
bool find(void *handle, const char *symbol, Function &function, std::string &why) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    if (function == nullptr) why = std::string("no ") + symbol + " in the library";
    return function != nullptr;
}

bool malloc_is_untouched(void *before, std::string &why) {
    if (dlsym(RTLD_DEFAULT, "malloc") == before) return true;
    why = "it would take over malloc of this process";
    return false;
}

// ---- mimalloc: types and functions as in its mimalloc.h

struct mi_heap_t;

struct Mimalloc {
    mi_heap_t *(*heap_new)();
    void (*heap_destroy)(mi_heap_t *);
    void *(*heap_malloc)(mi_heap_t *, std::size_t);
    void *(*heap_realloc)(mi_heap_t *, void *, std::size_t);
    void (*free)(void *);
} mi;

void *mimalloc_alloc(void *ud, void *block, std::size_t, std::size_t size) {
    if (size == 0) {
        mi.free(block);
        return nullptr;
    }
    auto *heap = static_cast<mi_heap_t *>(ud);
    return block == nullptr ? mi.heap_malloc(heap, size) : mi.heap_realloc(heap, block, size);
}

class MimallocHeap final : public Heap {
  public:
    MimallocHeap() {
        alloc = mimalloc_alloc;
        ud = mi.heap_new();
    }
    ~MimallocHeap() override { mi.heap_destroy(static_cast<mi_heap_t *>(ud)); }
};

class MimallocAllocator final : public Allocator {
  public:
    std::unique_ptr<Heap> make_heap() const override { return std::make_unique<MimallocHeap>(); }
    std::unique_ptr<State> make_state() const override { return state_on(make_heap()); }
};

// ---- tcmalloc

struct Tcmalloc {
    void *(*malloc)(std::size_t);
    void *(*realloc)(void *, std::size_t);
    void (*free_sized)(void *, std::size_t);
} tc;

void *tcmalloc_alloc(void *, void *block, std::size_t old_size, std::size_t size) {
    if (size == 0) {
        if (block != nullptr) tc.free_sized(block, old_size);
        return nullptr;
    }
    return block == nullptr ? tc.malloc(size) : tc.realloc(block, size);
}

}  // namespace

std::unique_ptr<Heap> SharedAllocator::make_heap() const {
    return std::make_unique<PlainHeap>(function_);
}

std::unique_ptr<State> SharedAllocator::make_state() const {
    return state_on(make_heap());
}

std::unique_ptr<Allocator> make_mimalloc(std::string &why) {
    void *const process_malloc = dlsym(RTLD_DEFAULT, "malloc");
    void *handle = load("libmimalloc.so.2", why);
    if (handle == nullptr || !malloc_is_untouched(process_malloc, why)) return nullptr;
    const bool complete = find(handle, "mi_heap_new", mi.heap_new, why) &&
                          find(handle, "mi_heap_destroy", mi.heap_destroy, why) &&
                          find(handle, "mi_heap_malloc", mi.heap_malloc, why) &&
                          find(handle, "mi_heap_realloc", mi.heap_realloc, why) &&
                          find(handle, "mi_free", mi.free, why);
    return complete ? std::make_unique<MimallocAllocator>() : nullptr;
}

std::unique_ptr<Allocator> make_tcmalloc(std::string &why) {
    void *const process_malloc = dlsym(RTLD_DEFAULT, "malloc");
    void *handle = load("libtcmalloc_minimal.so.4", why);
    if (handle == nullptr || !malloc_is_untouched(process_malloc, why)) return nullptr;
    const bool complete = find(handle, "tc_malloc", tc.malloc, why) &&
                          find(handle, "tc_realloc", tc.realloc, why) &&
                          find(handle, "tc_free_sized", tc.free_sized, why);
    return complete ? std::make_unique<SharedAllocator>(tcmalloc_alloc) : nullptr;
}

}  // namespace jemalloc_lua::bench
