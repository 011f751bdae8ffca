// What the inline wrappers must know of the jemalloc that this process runs on.

#include "system/jemalloc.h"

#include "system/flags.h"

namespace jemalloc_lua::je {
namespace {

constexpr int unbounded = 63;

// A size whose step would be far wider than a page, were steps to go on doubling.
constexpr std::size_t probe = std::size_t{16} << 20;

// Before all constructors that may make a heap.
[[gnu::constructor(101)]] void learn_size_classes() {
    const std::size_t step = nallocx(probe + 1, 0) - probe;
    widest_step_lg = step == probe / 4 ? unbounded : std::countr_zero(step);
}

}  // namespace

int widest_step_lg = unbounded;

}  // namespace jemalloc_lua::je
