// Allocators of other projects, loaded privately where they are installed.
#pragma once

#include "allocators.h"

namespace jemalloc_lua::bench {

// An allocator without heaps: all states share what lies behind one function.
class SharedAllocator final : public Allocator {
  public:
    explicit SharedAllocator(lua_Alloc function) : function_(function) {}
    std::unique_ptr<Heap> make_heap() const override;
    std::unique_ptr<State> make_state() const override;

  private:
    lua_Alloc function_;
};

// Null and a reason where the library is not installed or cannot be loaded without taking over malloc.
std::unique_ptr<Allocator> make_mimalloc(std::string &why);
std::unique_ptr<Allocator> make_tcmalloc(std::string &why);

}  // namespace jemalloc_lua::bench
