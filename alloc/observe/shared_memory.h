// Memory that other processes can read, and that only this process can write.
//
// It is a memfd with seals: no process can shrink it, and from Linux 5.1 on no other one can write it. So to
// write it is as safe as to write any other memory of this process, whatever becomes of files and disks. A
// reader finds it as the link to "/memfd:jemalloc_lua" in /proc/PID/fd.
//
// The descriptor is not used once the memory is mapped. A host that closes all descriptors only hides the
// memory from readers; a file that gets the same number later is left alone. Where the kernel has no memfd,
// or denies it, the memory is private, and all works but that.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>

namespace jemalloc_lua {

class SharedMemory {
  public:
    // Maps `bytes`, zeroed. False, with errno: no memory.
    bool make(std::size_t bytes);

    void *base() const { return base_; }

    // Gives pages to the bytes up to `end`, so that writing them can't fail. False: the system has no memory.
    bool make_usable(std::size_t end);

    // In a child of fork(), which may not write the memory of its parent: replaces it by a private copy of
    // its first `contents` bytes, at the same addresses. False: no memory, and it is zeroed and not usable.
    bool become_private(std::size_t contents);

    // Shares a copy of the private memory's first `contents` bytes, at the same addresses.
    bool share_again(std::size_t contents);

  private:
    bool populate_from(std::size_t offset);

    void *base_ = nullptr;
    std::size_t bytes_ = 0;
    std::atomic<std::size_t> usable_{0};
    int file_ = -1;     // the memfd, if the host has not closed it
    dev_t device_ = 0;  // what file_ was when it was made
    ino_t inode_ = 0;
};

}  // namespace jemalloc_lua
