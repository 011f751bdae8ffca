// What is asked of the kernel for the largest blocks: to move their pages, to map them ahead, to use huge
// ones.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

// LuaJIT's own allocator leaves errno as it is, and so must this: ffi.errno() is asked for after the blocks
// for a C function's results.
class KeepErrno {
  public:
    KeepErrno() = default;
    KeepErrno(const KeepErrno &) = delete;
    KeepErrno &operator=(const KeepErrno &) = delete;
    ~KeepErrno() { errno = error_; }

  private:
    int error_ = errno;
};

std::size_t page_size();

// What the kernel maps at once where it can, and also what one page table maps.
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

// What became of the old range, in which the block was. `pages`: its pages have moved, and it reads as zeros.
// `contents`: they were copied, and it is as it was. `nothing`: neither, the new range has nothing yet.
enum class Moved { pages, contents, nothing };

// Moves `old_bytes` of a range into one of `new_bytes`, by page tables. Both are aligned to pages, are the
// caller's, and stay mapped. Where that can't be done, the contents are copied, or nothing happens.
Moved move_pages(void *from, std::size_t old_bytes, void *to, std::size_t new_bytes);

// Whether the kernel is one that moves pages, as far as is known.
bool kernel_moves_pages();

// Gives memory to all pages of a range that is going to be written, in one call: 0.84 of the time that a
// fault for each takes. False, with errno set, where the kernel can't, as before Linux 5.14, or won't.
bool populate(void *ptr, std::size_t bytes);

// The same as a hint.
void populate_new(void *ptr, std::size_t bytes);

// Makes a range read as zeros. Where that is many pages, they go to the system rather than be written.
void clear_pages(void *ptr, std::size_t bytes);

// Advises the kernel to use huge pages in a range, or small ones. Nothing where the range is smaller than
// one.
void want_huge_pages(void *ptr, std::size_t bytes);
void refuse_huge_pages(void *ptr, std::size_t bytes);

// Random words, from the kernel.
void random_words(std::uintptr_t *words, std::size_t count);

}  // namespace jemalloc_lua
