// What is asked of the kernel for the largest blocks: to move their pages, to map them ahead, to use huge
// ones.
#pragma once

#include <array>
#include <cstddef>

namespace jemalloc_lua {

std::size_t page_size();

// What the kernel maps at once where it can, and also what one page table maps.
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

// What became of an old region: its pages are gone, and others that are zero in their place; or it is as it
// was.
enum class Moved { pages, contents, nothing };

// Moves `old_bytes` of a region into one of `new_bytes`, by page tables. Both are aligned to pages, are one's
// own, and stay mapped. Where that can't be done, the contents are copied, or nothing happens.
Moved move_pages(void *from, std::size_t old_bytes, void *to, std::size_t new_bytes);

// Whether the kernel is one that moves pages, as far as is known.
bool kernel_moves_pages();

// Gives memory to all pages of a range that is going to be written, in one call: 0.84 of the time that a
// fault for each takes. False, with errno set, where the kernel can't, as before Linux 5.14, or won't.
bool populate(void *ptr, std::size_t bytes);

// The same where the last page has no memory yet, as a hint.
void populate_new(void *ptr, std::size_t bytes);

// Whether all pages of a range, which starts and ends with one, have memory.
bool has_memory(void *ptr, std::size_t bytes);

// Has a region use small pages.
void refuse_huge_pages(void *ptr, std::size_t bytes);

// Regions that are to have huge pages, 16 at most.
//
// What a mapping was advised stays with it, and jemalloc hands its memory out again, perhaps for slabs: a
// page of one slab would be a huge one. So the advice is withdrawn before a region goes back, for which those
// that have it are listed. When the list is full, a region has small pages.
class HugePages {
  public:
    void add(void *ptr, std::size_t bytes);
    // A region that may be listed has another mapping, or is longer.
    void add_again(void *ptr, std::size_t bytes);
    // A region that may be listed goes back to jemalloc, but for the first `left` of its bytes.
    void withdraw(void *ptr, std::size_t bytes, std::size_t left = 0);
    // The same for all that are listed.
    void withdraw_all();

  private:
    void **find(const void *ptr);

    std::array<void *, 16> regions_{};
};

}  // namespace jemalloc_lua
