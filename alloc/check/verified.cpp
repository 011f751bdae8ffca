#include "check/verified.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

#include "base/address_table.h"
#include "base/fatal.h"
#include "check/tools.h"
#include "luajit/layout.h"
#include "system/arenas.h"

namespace jemalloc_lua {
namespace {

constexpr std::size_t full_red_zone = 16;
constexpr unsigned char red_byte = 0xC5;
constexpr unsigned char fresh_byte = 0xAF;  // what an uninitialised block holds
constexpr unsigned char freed_byte = 0x5A;

// The quarantine holds so many blocks and bytes.
constexpr std::size_t quarantine_blocks = 1024;
constexpr std::size_t quarantine_bytes = std::size_t{1} << 20;
constexpr std::size_t quarantine_bytes_by_tool = std::size_t{64} << 10;

constexpr std::size_t min_capacity = 256;

// Blocks up to this size move at each realloc when a tool watches. Larger ones are the front's to resize, so
// that its own ways of growing are under the tool too.
constexpr std::size_t max_moved = std::size_t{32} << 10;

// The offset of the first byte that is not `expected`, or size.
std::size_t first_other(const unsigned char *bytes, std::size_t size, unsigned char expected) {
    std::size_t at = 0;
    while (at < size && bytes[at] == expected) ++at;
    return at;
}

class Verified final : public EntryMemory {
  public:
    // `by_tool`: a tool watches; else patterns do.
    Verified(Heap &heap, bool by_tool)
        : heap_(heap),
          by_tool_(by_tool),
          red_zone_(by_tool && tools::is_exact ? 0 : full_red_zone),
          max_freed_(by_tool ? quarantine_bytes_by_tool : quarantine_bytes) {
        if (by_tool_) tools::begin_pool(this, red_zone_);
    }
    bool start() { return grow_table(); }

    void *request(void *ptr, std::size_t old_size, std::size_t new_size) {
        if (ptr == nullptr) return new_size == 0 ? nullptr : alloc(new_size);
        if (new_size != 0) return resize(ptr, old_size, new_size);
        free(ptr, old_size);
        return nullptr;
    }

    void flush() override {
        while (freed_count_ > 0) release_oldest();
        fit_table();
    }

    std::size_t held_back() const override { return freed_bytes_; }

    void end() override {
        while (freed_count_ > 0) release_oldest();
        for (std::size_t i = 0; i < live_.capacity(); ++i) {
            const AddressTable::Entry &entry = live_.entries()[i];
            if (entry.key == 0) continue;
            void *ptr = reinterpret_cast<void *>(entry.key);
            if (by_tool_) tools::forget(ptr, entry.value + red_zone_);
            if (!by_tool_)
                call(ptr, entry.value + red_zone_, 0);  // the direct front does not know its blocks
        }
        if (by_tool_) tools::end_pool(this);
        heap_.state.verified = nullptr;
        free_table(live_.entries(), live_.capacity());
        this->~Verified();
        give_extent(this, sizeof(Verified), alignof(Verified));
    }

  private:
    struct Freed {
        unsigned char *ptr;
        std::size_t size;
    };

    [[noreturn, gnu::format(printf, 4, 5)]] void report(const void *ptr, std::size_t size, const char *format,
                                                        ...) const {
        char what[256];
        va_list args;
        va_start(args, format);
        std::vsnprintf(what, sizeof what, format, args);
        va_end(args);
        fatal("front:checked: block %p of %zu bytes (heap %p): %s", ptr, size, static_cast<void *>(&heap_),
              what);
    }

    void *call(void *ptr, std::size_t old_size, std::size_t new_size) {
        const tools::Quiet quiet;
        return heap_.below(Entry::verified)(&heap_, ptr, old_size, new_size);
    }
    AddressTable::Entry *find(const void *ptr) { return live_.find(reinterpret_cast<std::uintptr_t>(ptr)); }

    // ---- The table of live blocks, from jemalloc, and counted

    // memcheck lets nobody touch the 16 bytes before a block, which may be the next thing in the arena.
    std::size_t table_bytes(std::size_t capacity) const {
        return capacity * sizeof(AddressTable::Entry) + (by_tool_ ? red_zone_ : 0);
    }

    // The front does not know of these pages: under a limit they go to the system at once, or they would lie
    // above it. Those of another arena than the heap's own are not seen by trim either.
    void free_table(AddressTable::Entry *entries, std::size_t capacity) {
        constexpr std::size_t large = std::size_t{256} << 10;
        if (entries == nullptr) return;
        give_extent(entries, table_bytes(capacity), 64);
        const bool is_limited = heap_.budget().counts().limit != SIZE_MAX;
        if ((by_tool_ || is_limited) && table_bytes(capacity) >= large) purge_arena(table_arena());
    }

    // Tables get three quarters full, since their bytes count.
    bool is_table_full() const { return live_.count() >= live_.capacity() / 4 * 3; }
    bool grow_table() { return resize_table(std::max(2 * live_.capacity(), min_capacity)); }
    // Where there is no memory for a smaller one, the table stays.
    void fit_table() {
        std::size_t wanted = live_.capacity();
        while (wanted > min_capacity && live_.count() < wanted / 4) wanted /= 2;
        if (wanted < live_.capacity()) resize_table(wanted);
    }

    // That of the blocks, whose pages are compared with what the heap counts (pages/gaps.h); a tool takes the
    // heap's own words for a block's red zone.
    unsigned table_arena() const { return by_tool_ ? tool_arena_ : heap_.stats().arena; }

    bool resize_table(std::size_t wanted) {
        const std::size_t before = live_.capacity();
        // Under a tool the heap's figures stay those of the heap.
        const std::size_t taken = by_tool_ ? 0 : table_bytes(wanted);
        if (wanted < before) {
            heap_.budget().take_always(taken);
        } else if (!heap_.budget().take(taken)) {
            return false;
        }
        void *memory = take_extent(table_bytes(wanted), 64, table_arena());
        if (memory == nullptr) {
            heap_.budget().undo(taken);
            heap_.budget().refuse();
            return false;
        }
        if (by_tool_) tools::forget(memory, table_bytes(wanted));
        std::memset(memory, 0, table_bytes(wanted));
        AddressTable::Entry *old = live_.entries();
        live_.move_to(static_cast<AddressTable::Entry *>(memory), wanted);
        free_table(old, before);
        heap_.budget().give(by_tool_ ? 0 : table_bytes(before));
        // The front did not see these bytes, so it is to look again at what the limit leaves.
        heap_.front().limit_changed(heap_);
        return true;
    }

    // ---- Red zones

    void begin_block(void *ptr, std::size_t size) {
        if (by_tool_) return tools::begin_block(this, ptr, size, red_zone_);
        std::memset(static_cast<unsigned char *>(ptr) + size, red_byte, red_zone_);
    }

    void check_red_zone(void *ptr, std::size_t size) const {
        if (by_tool_) return;
        const auto *end = static_cast<const unsigned char *>(ptr) + size;
        const std::size_t good = first_other(end, red_zone_, red_byte);
        if (good == red_zone_) return;
        report(ptr, size, "written past its end: byte %zu is 0x%02x", size + good, end[good]);
    }

    // ---- Blocks that Lua hands in

    // After a refusal LuaJIT may name a size that is too small for a closure.
    std::size_t freed_size(void *ptr, std::size_t size) {
        if (!heap_.budget().counts().has_refused()) return size;
        const AddressTable::Entry *found = find(ptr);
        const bool is_short =
            found != nullptr && found->value > size && found->value - size <= luajit::max_upvalues_size;
        return is_short ? found->value : size;
    }

    void check(void *ptr, std::size_t size) {
        const AddressTable::Entry *found = find(ptr);
        if (found == nullptr) {
            for (std::size_t i = 0; i < freed_count_; ++i) {
                const Freed &freed = quarantine_[(oldest_ + i) % quarantine_blocks];
                if (freed.ptr == ptr) report(ptr, freed.size, "double free: it is free already");
            }
            report(ptr, size, "not a block of this heap");
        }
        if (found->value != size) report(ptr, found->value, "wrong size: the caller says %zu bytes", size);
        if (reinterpret_cast<std::uintptr_t>(ptr) % 16 != 0) report(ptr, size, "not aligned to 16 bytes");
        check_red_zone(ptr, size);
    }

    void *alloc(std::size_t size) {
        if (size > PTRDIFF_MAX - red_zone_) {
            heap_.budget().refuse();
            return nullptr;
        }
        // Quarantined blocks are released before a request is refused.
        if (!heap_.budget().has_room(2 * size + red_zone_)) flush();
        if (is_table_full() && !grow_table()) return nullptr;
        void *ptr = call(nullptr, 0, size + red_zone_);
        if (ptr == nullptr) return nullptr;
        live_.insert(reinterpret_cast<std::uintptr_t>(ptr), size);
        if (!by_tool_) std::memset(ptr, fresh_byte, size);
        begin_block(ptr, size);
        return ptr;
    }

    // ---- The quarantine: a ring from the oldest to the newest

    void release_oldest() {
        const Freed freed = quarantine_[oldest_];
        oldest_ = (oldest_ + 1) % quarantine_blocks;
        --freed_count_;
        freed_bytes_ -= freed.size;
        if (by_tool_) {
            tools::forget(freed.ptr, freed.size + red_zone_);
        } else {
            const std::size_t good = first_other(freed.ptr, freed.size, freed_byte);
            if (good != freed.size) {
                report(freed.ptr, freed.size, "used after it was freed: byte %zu was overwritten with 0x%02x",
                       good, freed.ptr[good]);
            }
        }
        call(freed.ptr, freed.size + red_zone_, 0);
    }

    void free(void *ptr, std::size_t size) {
        size = freed_size(ptr, size);
        check(ptr, size);
        live_.erase(reinterpret_cast<std::uintptr_t>(ptr));
        if (heap_.state.ends_with(ptr)) {
            run_all(heap_.state.at_end);
            if (live_.count() > 0) report_leak();
            while (freed_count_ > 0) release_oldest();
            if (by_tool_) tools::forget(ptr, size + red_zone_);
            call(ptr, size + red_zone_, 0);  // and this object is gone
            return;
        }
        if (by_tool_) {
            tools::end_block(this, ptr, size);
        } else {
            std::memset(ptr, freed_byte, size);
        }
        if (freed_count_ == quarantine_blocks) release_oldest();
        quarantine_[(oldest_ + freed_count_++) % quarantine_blocks] = {static_cast<unsigned char *>(ptr),
                                                                       size};
        freed_bytes_ += size;
        while (freed_bytes_ > max_freed_) release_oldest();
    }

    [[noreturn]] void report_leak() {
        const AddressTable::Entry *entry = live_.entries();
        while (entry->key == 0) ++entry;
        report(reinterpret_cast<void *>(entry->key), entry->value, "still live when its state ended");
    }

    // To a new block, so that a pointer kept to the old one is found out.
    void *resize(void *ptr, std::size_t old_size, std::size_t new_size) {
        check(ptr, old_size);
        if (new_size > PTRDIFF_MAX - red_zone_) {
            heap_.budget().refuse();
            return nullptr;
        }
        const bool has_room = new_size > old_size || heap_.budget().has_room(2 * new_size + red_zone_);
        const bool moves = has_room && (!by_tool_ || std::max(old_size, new_size) <= max_moved);
        if (void *moved = moves ? alloc(new_size) : nullptr) {
            std::memcpy(moved, ptr, std::min(old_size, new_size));
            free(ptr, old_size);
            return moved;
        }
        if (moves && new_size > old_size) return nullptr;
        return resize_in_front(ptr, old_size, new_size);
    }

    void *resize_in_front(void *ptr, std::size_t old_size, std::size_t new_size) {
        if (by_tool_) {
            tools::end_block(this, ptr, old_size);
            tools::forget(ptr, old_size + red_zone_);
        }
        void *resized = call(ptr, old_size + red_zone_, new_size + red_zone_);
        void *now = resized != nullptr ? resized : ptr;
        const std::size_t size = resized != nullptr ? new_size : old_size;
        live_.erase(reinterpret_cast<std::uintptr_t>(ptr));
        live_.insert(reinterpret_cast<std::uintptr_t>(now), size);
        begin_block(now, size);
        if (by_tool_) tools::define(now, std::min(old_size, size));
        return resized;
    }

    Heap &heap_;
    bool by_tool_;
    unsigned tool_arena_ = by_tool_ ? shared_arena() : 0;
    std::size_t red_zone_;
    std::size_t max_freed_;  // bytes in the quarantine
    AddressTable live_;      // sizes as Lua knows them
    std::array<Freed, quarantine_blocks> quarantine_;
    std::size_t oldest_ = 0;
    std::size_t freed_count_ = 0;
    std::size_t freed_bytes_ = 0;
};

}  // namespace

void *verified_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size) {
    Heap &heap = *static_cast<Heap *>(ud);
    return static_cast<Verified *>(heap.state.verified)->request(ptr, old_size, new_size);
}

static bool may_watch = true;

void let_tools_watch(bool wanted) {
    may_watch = wanted;
}

bool verify_if_wanted(Heap &heap, const Options &options) {
    const bool checked = options.front == JEMALLOC_LUA_FRONT_CHECKED;
    const bool watched = options.front == JEMALLOC_LUA_FRONT_SLAB && may_watch && tools::watching();
    if (!checked && !watched) return true;
    void *memory = take_extent(sizeof(Verified), alignof(Verified), shared_arena());
    if (memory == nullptr) return false;
    auto *verified = new (memory) Verified(heap, watched);
    if (!verified->start()) {
        verified->end();
        return false;
    }
    heap.state.verified = verified;
    heap.set_entry(Entry::verified, verified_entry);
    return true;
}

}  // namespace jemalloc_lua
