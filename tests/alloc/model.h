// What a heap should do, told by a model of it: which blocks are alive, what each must hold, where none may
// be, and what the heap must say of itself. Whoever drives it, at random (model_test.cpp) or from a fuzzer's
// bytes (tests/fuzz/heap.cpp), says which request comes next.
#pragma once

#include <jemalloc_lua.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace test {

class Model {
  public:
    // A state on a heap of its owner's. `slack`: bytes that may be free below the limit when a request is
    // refused, besides four times the request's size.
    Model(jemalloc_lua_heap *heap, std::size_t slack)
        : heap_(heap), alloc_(jemalloc_lua_heap_alloc(heap)), slack_(slack) {
        L_ = lua_newstate(alloc_, heap_);
        if (L_ == nullptr) wrong("there is no state");
    }
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    ~Model() {
        free_all();
        if (L_ != nullptr) lua_close(L_);
    }

    // What went wrong first; empty: nothing. After that no request is made any more.
    const std::string &problem() const { return problem_; }

    std::size_t blocks() const { return blocks_.size(); }
    std::size_t live_bytes() const { return live_; }
    std::size_t size_of(std::size_t index) const { return blocks_[index].size; }
    std::uint64_t refusals() const { return refusals_; }
    lua_State *state() const { return L_; }

    void set_limit(std::size_t bytes) {
        limit_ = bytes;
        if (jemalloc_lua_set_limit(L_, bytes) != 0) wrong("the limit can't be set");
    }

    // From now on requests name old sizes from here, as modules do that LuaJIT's own allocator forgives.
    void lie(std::function<std::size_t(std::size_t size)> old_size) { old_size_ = std::move(old_size); }

    // `type`: what Lua says of the block's type in place of an old size.
    void obtain(std::size_t size, std::size_t type) {
        if (!problem_.empty()) return;
        auto *ptr = static_cast<unsigned char *>(request(nullptr, type, size));
        if (ptr == nullptr) return refused(size);
        if (!place(ptr, size)) return;
        blocks_.push_back({ptr, size, next_seed()});
        fill(blocks_.back());
    }

    void free(std::size_t index) {
        if (!problem_.empty()) return;
        const Block block = blocks_[index];
        if (!check(block, block.ptr, block.size)) return;
        displace(block);
        if (request(block.ptr, old_size_(block.size), 0) != nullptr) return wrong("a free has an answer");
        blocks_[index] = blocks_.back();
        blocks_.pop_back();
    }

    void resize(std::size_t index, std::size_t size) {
        if (!problem_.empty()) return;
        Block &block = blocks_[index];
        if (!check(block, block.ptr, block.size)) return;
        displace(block);
        auto *ptr = static_cast<unsigned char *>(request(block.ptr, old_size_(block.size), size));
        if (ptr == nullptr) {
            if (size <= block.size) return wrong("a block of " + bytes(block.size) + " could not shrink");
            if (place(block.ptr, block.size) && check(block, block.ptr, block.size)) refused(size);
            return;
        }
        if (!check(block, ptr, size) || !place(ptr, size)) return;
        block.ptr = ptr;
        block.size = size;
        fill(block);
    }

    void free_all() {
        while (!blocks_.empty() && problem_.empty()) free(blocks_.size() - 1);
    }

    void trim() { jemalloc_lua_trim(L_); }

    void check_account() {
        if (!problem_.empty()) return;
        const jemalloc_lua_stats now = stats();
        if (now.footprint < live_ + now.live)
            wrong("footprint of " + bytes(now.footprint) + " below what is live");
        if (now.peak < now.footprint) wrong("peak of " + bytes(now.peak) + " below the footprint");
    }

    jemalloc_lua_stats stats() {
        jemalloc_lua_stats now{};
        now.size = sizeof now;
        if (jemalloc_lua_get_stats(L_, &now) != 0) wrong("no statistics");
        return now;
    }

    void wrong(const std::string &what) {
        if (problem_.empty()) problem_ = what;
    }

  private:
    struct Block {
        unsigned char *ptr;
        std::size_t size;
        unsigned char seed;
    };

    // The heap; for fuzz targets that show that they find a fault, one whose blocks of 512 bytes and more
    // keep their place when they grow by up to 64.
    void *request(void *ptr, std::size_t old_size, std::size_t new_size) {
#ifdef JEMALLOC_LUA_SEEDED_FAULT
        if (ptr != nullptr && old_size > 512 && new_size > old_size && new_size - old_size <= 64) return ptr;
#endif
        return alloc_(heap_, ptr, old_size, new_size);
    }

    static std::string bytes(std::size_t number) {
        return std::to_string(number) + " bytes";
    }

    unsigned char next_seed() {
        return seed_ += 101;
    }

    // Contents are tied to the block: a byte of its own at each end and in the middle, all of them if it is
    // small. The rest of a large one would take most of the time.
    static constexpr std::size_t edge = 64;

    static void fill(const Block &block) {
        if (block.size <= 4 * edge) {
            std::memset(block.ptr, block.seed, block.size);
            return;
        }
        std::memset(block.ptr, block.seed, edge);
        std::memset(block.ptr + block.size / 2, block.seed, edge);
        std::memset(block.ptr + block.size - edge, block.seed, edge);
    }

    // The first `size` bytes of what was filled.
    bool check(const Block &block, const unsigned char *ptr, std::size_t size) {
        const auto all = [&](std::size_t from, std::size_t count, const char *part) {
            const auto *first = ptr + from;
            if (std::all_of(first, first + count, [&](unsigned char c) { return c == block.seed; }))
                return true;
            wrong("wrong contents: " + std::string(part) + " of a block of " + bytes(block.size));
            return false;
        };
        if (block.size <= 4 * edge) return all(0, std::min(size, block.size), "in all");
        if (!all(0, std::min(size, edge), "start")) return false;
        if (size >= block.size / 2 + edge && !all(block.size / 2, edge, "middle")) return false;
        return size < block.size || all(block.size - edge, edge, "end");
    }

    // Where blocks are: none may reach into another.
    bool place(const unsigned char *ptr, std::size_t size) {
        const auto start = reinterpret_cast<std::uintptr_t>(ptr);
        const auto after = where_.lower_bound(start);
        if (start % 16 != 0) {
            wrong("a block of " + bytes(size) + " is not aligned to 16");
        } else if (after != where_.end() && start + size > after->first) {
            wrong("a block of " + bytes(size) + " reaches into the next");
        } else if (after != where_.begin() && std::prev(after)->first + std::prev(after)->second > start) {
            wrong("a block of " + bytes(size) + " begins within another");
        } else {
            where_.emplace_hint(after, start, size);
            live_ += size;
            return true;
        }
        return false;
    }

    void displace(const Block &block) {
        where_.erase(reinterpret_cast<std::uintptr_t>(block.ptr));
        live_ -= block.size;
    }

    // Nothing is refused while there is plenty.
    void refused(std::size_t size) {
        ++refusals_;
        if (size > PTRDIFF_MAX) return;
        const jemalloc_lua_stats now = stats();
        if (limit_ == 0 || now.footprint + 4 * size + slack_ <= limit_) wrong("refused " + bytes(size));
    }

    jemalloc_lua_heap *heap_;
    lua_Alloc alloc_;
    std::size_t slack_;
    lua_State *L_ = nullptr;
    std::size_t limit_ = 0;
    std::vector<Block> blocks_;
    std::map<std::uintptr_t, std::size_t> where_;
    std::size_t live_ = 0;
    std::function<std::size_t(std::size_t)> old_size_ = [](std::size_t size) { return size; };
    std::uint64_t refusals_ = 0;
    unsigned char seed_ = 0;
    std::string problem_;
};

}  // namespace test
