// The registry of allocators: LuaJIT's, the C library's, jemalloc's, this library's; peers are in peers.cpp.

#include "allocators.h"

#include <cstdlib>

#include "peers.h"
#include "state/inside.h"
// This file alone calls jemalloc by itself, for comparison, and as directly as the library does.
#include "system/jemalloc.h"

extern "C" {
// glibc's allocator by the names that nobody takes over.
void *__libc_malloc(std::size_t size);                // NOLINT(bugprone-reserved-identifier)
void *__libc_realloc(void *block, std::size_t size);  // NOLINT(bugprone-reserved-identifier)
void __libc_free(void *block);                        // NOLINT(bugprone-reserved-identifier)
}

namespace jemalloc_lua::bench {
namespace {

// ---- LuaJIT's own

class BuiltinHeap final : public Heap {
  public:
    BuiltinHeap() : carrier_(luaL_newstate()) { alloc = lua_getallocf(carrier_, &ud); }
    ~BuiltinHeap() override { lua_close(carrier_); }

  private:
    lua_State *carrier_;  // its heap is the one that we use
};

class BuiltinState final : public State {
  public:
    BuiltinState() { L = luaL_newstate(); }
    ~BuiltinState() override { lua_close(L); }
};

class Builtin final : public Allocator {
  public:
    std::unique_ptr<Heap> make_heap() const override { return std::make_unique<BuiltinHeap>(); }
    std::unique_ptr<State> make_state() const override {
        auto state = std::make_unique<BuiltinState>();
        return state;
    }
};

// ---- Functions that need no heap: glibc, jemalloc with flags 0

void *glibc_alloc(void *, void *block, std::size_t, std::size_t size) {
    if (size == 0) {
        __libc_free(block);
        return nullptr;
    }
    return block == nullptr ? __libc_malloc(size) : __libc_realloc(block, size);
}

void *jemalloc_alloc(void *, void *block, std::size_t old_size, std::size_t size) {
    if (size == 0) {
        if (block != nullptr) je::sdallocx(block, old_size, 0);
        return nullptr;
    }
    return block == nullptr ? je::mallocx(size, 0) : je::rallocx(block, size, 0);
}

// ---- This library

class OurHeap final : public Heap {
  public:
    explicit OurHeap(const jemalloc_lua_options &options) : heap_(jemalloc_lua_heap_create(&options)) {
        alloc = jemalloc_lua_heap_alloc(heap_);
        ud = heap_;
    }
    ~OurHeap() override { jemalloc_lua_heap_destroy(heap_); }

  private:
    jemalloc_lua_heap *heap_;
};

class OurState final : public State {
  public:
    explicit OurState(const jemalloc_lua_options &options) { L = jemalloc_lua_newstate_opts(&options); }
    ~OurState() override { jemalloc_lua_close(L); }
};

class Ours final : public Allocator {
  public:
    explicit Ours(const jemalloc_lua_options &options) : options_(options) {}
    std::unique_ptr<Heap> make_heap() const override { return std::make_unique<OurHeap>(options_); }
    std::unique_ptr<State> make_state() const override {
        auto state = std::make_unique<OurState>(options_);
        return state->L == nullptr ? nullptr : std::move(state);
    }

  private:
    jemalloc_lua_options options_;
};

std::unique_ptr<Allocator> make_ours(const std::string &conf, std::string &why) {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    char message[512];
    if (jemalloc_lua_options_parse(&options, conf.c_str(), message, sizeof message) != 0) {
        why = message;
        return nullptr;
    }
    return std::make_unique<Ours>(options);
}

std::unique_ptr<Allocator> make(const std::string &name, std::string &why) {
    if (name == "builtin") return std::make_unique<Builtin>();
    if (name == "glibc") return std::make_unique<SharedAllocator>(glibc_alloc);
    if (name == "jemalloc") return std::make_unique<SharedAllocator>(jemalloc_alloc);
    if (name == "mimalloc") return make_mimalloc(why);
    if (name == "tcmalloc") return make_tcmalloc(why);
    if (name == "default") return make_ours("", why);
    if (name.find(':') != std::string::npos) return make_ours(name, why);
    why = "unknown allocator \"" + name +
          "\"; there are builtin, glibc, jemalloc, mimalloc, tcmalloc, default, or options such as "
          "front:direct";
    return nullptr;
}

}  // namespace

std::unique_ptr<Allocator> find_allocator(std::string_view name, std::string &why) {
    auto allocator = make(std::string(name), why);
    if (allocator != nullptr) allocator->name = name;
    return allocator;
}

bool is_optional(std::string_view name) {
    return name == "mimalloc" || name == "tcmalloc";
}

std::vector<std::string> standard_allocators() {
    return {"builtin", "glibc", "jemalloc", "front:direct", "front:slab", "mimalloc", "tcmalloc"};
}

}  // namespace jemalloc_lua::bench
