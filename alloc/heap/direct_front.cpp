// The direct front: every block is a jemalloc allocation of its own.
//
// There is nothing between Lua and jemalloc but the count of bytes. jemalloc's size classes are computed
// inline, so that a block that stays within its class is not even passed on, and every free is a sized one.

#include <algorithm>
#include <cstring>

#include "heap/heap.h"
#include "pages/gaps.h"
#include "pages/purge_meter.h"
#include "policy/retention.h"
#include "system/arenas.h"
#include "system/jemalloc.h"

namespace jemalloc_lua {
namespace {

// jemalloc's allocations of at least this size are extents, which can grow and shrink in place.
constexpr std::size_t min_extent = std::size_t{16} << 10;

// Requests are rounded up to 16 bytes, so that blocks of 8 are aligned as all others.
constexpr std::size_t at_least_16(std::size_t size) {
    return size < 16 ? 16 : size;
}

class DirectHeap final : public Heap {
  public:
    DirectHeap(const Options &options, unsigned first_arena)
        : Heap(direct_front, options, true, first_arena),
          gaps_(budget_),
          retain_(options.retain),
          purge_meter_(options.retain) {}

    void *request(void *ptr, std::size_t new_size) {
        if (ptr == nullptr) return new_size == 0 ? nullptr : alloc(new_size);
        if (new_size != 0) return resize(ptr, new_size);
        free(ptr);
        return nullptr;
    }

    std::size_t trim() {
        // An arena that is shared has dirty pages of other heaps too.
        const Budget::Counts &counts = budget_.counts();
        const std::size_t most = std::max(counts.peak, counts.held) - counts.held;
        const std::size_t bytes = std::min(arena_.trim(), most);
        purged_ += bytes;
        gaps_.settle(arena_.active(), 0);
        return bytes;
    }

    // Bytes that jemalloc holds for a block, whatever its caller says.
    static std::size_t bytes_of(const void *ptr) { return je::sallocx(ptr, 0); }

    void count(jemalloc_lua_stats &stats) const {
        stats.front = JEMALLOC_LUA_FRONT_DIRECT;
        stats.footprint = gaps_.footprint_now(arena_);
        stats.purged = purged_;
    }
    std::uint64_t requests() const { return requests_; }
    void limit_changed() { gaps_.limit_changed(); }
    bool goes_as_a_whole() const { return arena_.placement().owns_all; }
    std::size_t bytes_on_first() const {
        const Budget::Counts &counts = budget_.counts();
        return arena_.bytes_on_first(std::max(counts.peak, counts.held));
    }
    unsigned first_arena() const { return arena_.placement().first; }

  private:
    bool take(std::size_t bytes) {
        if (gaps_.must_settle(bytes)) [[unlikely]]
            settle(bytes);
        return budget_.take(bytes);
    }

    // Dirty pages go to the system first: the pages of the heap are then those that its blocks are in. In an
    // arena that others share nobody can tell whose pages are whose, and to purge it at every turn would be
    // at the others' cost.
    [[gnu::noinline]] void settle(std::size_t bytes) {
        const Budget::Counts &counts = budget_.counts();
        if (arena_.placement().owns || policy::purge_for_limit(counts.held, dirty_, bytes, counts.limit)) {
            arena_.purge(true);
            dirty_ = 0;
        }
        gaps_.settle(arena_.active(), bytes);
    }

    [[gnu::noinline]] void *refuse(std::size_t taken) {
        budget_.undo(taken);
        budget_.refuse();
        return nullptr;
    }

    void *alloc(std::size_t size) {
        if (size > PTRDIFF_MAX) [[unlikely]]
            return refuse(0);
        const std::size_t bytes = je::size_class(size);
        if (!take(bytes)) [[unlikely]]
            return nullptr;
        void *ptr = je::mallocx(at_least_16(size), arena_.flags());
        if (ptr == nullptr) [[unlikely]]
            return refuse(bytes);
        note_first(ptr, size);
        ++requests_;
        arena_.migrate_if_due(budget_.counts().own());
        return ptr;
    }

    void free(void *ptr) {
        const std::size_t bytes = bytes_of(ptr);
        je::sdallocx(ptr, bytes, arena_.free_flags());
        if (state.ends_with(ptr)) [[unlikely]]
            return end();
        budget_.give(bytes);
        if (bytes >= min_extent) dirty_ += bytes;
        freed_ += bytes;
        if (freed_ >= freed_step) [[unlikely]]
            after_free();
    }

    // jemalloc keeps what is freed. What the heap held at its highest since the last purge, less what it
    // holds now, is dirty at most.
    [[gnu::noinline]] void after_free() {
        freed_ = 0;
        const std::size_t held = budget_.counts().own();
        highest_ = std::max(highest_, held + freed_step);
        const std::size_t dirty = highest_ - held;
        if (!policy::after_free({held, 0, dirty}, retain_).purge || !arena_.placement().may_own()) return;
        if (!purge_meter_.pays(held, dirty)) return;
        highest_ = held;
        dirty_ = 0;
        purged_ += std::min(arena_.trim(), dirty);
    }

    void *resize(void *ptr, std::size_t new_size) {
        if (new_size > PTRDIFF_MAX) [[unlikely]]
            return refuse(0);
        const std::size_t old_bytes = bytes_of(ptr);
        const std::size_t new_bytes = je::size_class(new_size);
        return old_bytes == new_bytes ? ptr : move(ptr, new_size, old_bytes, new_bytes);
    }

    // Another size class: in place where jemalloc can, else a new block. While contents move both blocks are
    // held, and counted.
    [[gnu::noinline]] void *move(void *ptr, std::size_t new_size, std::size_t old_bytes,
                                 std::size_t new_bytes) {
        const bool grows = new_bytes > old_bytes;
        const int flags = arena_.flags();
        if (old_bytes >= min_extent && new_bytes >= min_extent) {
            if (grows && !take(new_bytes - old_bytes)) return nullptr;
            const bool in_place = je::xallocx(ptr, new_size, 0, flags) == new_bytes;
            if (in_place && !grows) {
                budget_.give(old_bytes - new_bytes);
                dirty_ += old_bytes - new_bytes;
            }
            if (in_place) return ptr;
            if (grows) budget_.undo(new_bytes - old_bytes);
        }
        if (!grows) {
            budget_.take_always(new_bytes);
        } else if (!take(new_bytes)) {
            return nullptr;
        }
        void *moved = je::mallocx(at_least_16(new_size), flags);
        if (moved == nullptr) {
            refuse(new_bytes);
            return grows ? nullptr : ptr;  // Lua does not expect that a block cannot shrink
        }
        ++requests_;
        std::memcpy(moved, ptr, std::min(old_bytes, new_size));
        if (scrub_) explicit_bzero(ptr, old_bytes);
        free(ptr);
        arena_.migrate_if_due(budget_.counts().own());
        return moved;
    }

    static constexpr std::size_t freed_step = std::size_t{1} << 20;

    Gaps gaps_;
    unsigned retain_;  // percent
    PurgeMeter purge_meter_;
    std::size_t freed_ = 0;    // bytes since retention was last asked
    std::size_t highest_ = 0;  // held since the last purge
    std::size_t dirty_ = 0;    // bytes of extents freed and not yet purged, as far as the heap can tell
    std::uint64_t requests_ = 0;
    std::uint64_t purged_ = 0;
};

DirectHeap &heap_from(void *ud) {
    return static_cast<DirectHeap &>(*static_cast<Heap *>(ud));
}
const DirectHeap &direct(const Heap &heap) {
    return static_cast<const DirectHeap &>(heap);
}

void *direct_alloc(void *ud, void *ptr, std::size_t, std::size_t new_size) {
    return heap_from(ud).request(ptr, new_size);
}

// ---- Set-up and teardown: the heap lies in a block of its own on a shared arena

Heap *create(const Options &options) {
    const unsigned first = shared_arena();
    void *memory = take_extent(sizeof(DirectHeap), alignof(DirectHeap), first);
    return memory == nullptr ? nullptr : new (memory) DirectHeap(options, first);
}

void destroy(Heap &base) {
    DirectHeap &heap = heap_from(&base);
    const unsigned first = heap.first_arena();
    const std::size_t given = heap.bytes_on_first();
    heap.~DirectHeap();
    give_extent(&heap, sizeof(DirectHeap), alignof(DirectHeap));
    if (given != 0) shared_given(first, 0, given);
}

}  // namespace

const Front direct_front{
    .alloc = direct_alloc,
    .create = create,
    .destroy = destroy,
    .trim = [](Heap &heap) { return heap_from(&heap).trim(); },
    .count = [](const Heap &heap, jemalloc_lua_stats &stats) { direct(heap).count(stats); },
    .requests = [](const Heap &heap) { return direct(heap).requests(); },
    .goes_as_a_whole = [](const Heap &heap) { return direct(heap).goes_as_a_whole(); },
    .limit_changed = [](Heap &heap) { heap_from(&heap).limit_changed(); },
    .map_ahead = [](Heap &, bool) {},
    .bytes_of = [](Heap &, const void *block, std::size_t) { return DirectHeap::bytes_of(block); },
    .verify = nullptr,
    .is_valid = [](const Heap &) { return true; },
};

}  // namespace jemalloc_lua
