#include "policy/retention.h"

#include <algorithm>

namespace jemalloc_lua::policy {

Verdict after_free(const PageUse &use, unsigned retain_percent) {
    const std::size_t allowed = std::max(use.live / 100 * retain_percent, min_kept);
    if (use.idle > allowed) return {use.idle - allowed, false};
    return {0, use.dirty > allowed - use.idle + purge_step};
}

}  // namespace jemalloc_lua::policy
