// What the inline wrappers must know of the jemalloc that this process runs on.

#include "system/jemalloc.h"

#include "system/flags.h"

namespace jemalloc_lua::je {
namespace {

// A size whose step would be far wider than a page, were steps to go on doubling.
constexpr std::size_t probe = std::size_t{16} << 20;

// Before all constructors that may make a heap.
[[gnu::constructor(101)]] void learn_size_classes() {
    const std::size_t step = nallocx(probe + 1, 0) - probe;
    widest_step_lg = step == probe / 4 ? unbounded_step_lg : std::countr_zero(step);
}

[[gnu::constructor(101)]] void learn_fit() {
    std::size_t lg = 0;
    std::size_t size = sizeof lg;
    if (mallctl("opt.lg_extent_max_active_fit", &lg, &size, nullptr, 0) == 0)
        max_fit_lg = static_cast<unsigned>(std::min<std::size_t>(lg, 63));
}

}  // namespace

int widest_step_lg = unbounded_step_lg;
unsigned max_fit_lg = 6;  // jemalloc's default

}  // namespace jemalloc_lua::je
