#include "observe/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "system/kernel.h"

// Of kernels after those that the C library's headers may be of.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace jemalloc_lua {
namespace {

constexpr std::size_t step = std::size_t{64} << 10;  // bytes that get pages at a time

// Above the numbers that programs count on: a host that has closed its standard streams reopens them by
// taking the lowest free number.
constexpr int lowest_file = 100;

int new_memfd() {
    int file = -1;
    for (const unsigned flags : {MFD_NOEXEC_SEAL, 0U}) {
        file = static_cast<int>(
            syscall(SYS_memfd_create, "jemalloc_lua", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
        if (file >= 0 || errno != EINVAL) break;
    }
    if (file < 0) return -1;
    int high = fcntl(file, F_DUPFD_CLOEXEC, lowest_file);
    if (high < 0) high = fcntl(file, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(file);
    return high;
}

// ftruncate() beyond `ulimit -f` sends a signal that ends the process.
bool may_have(std::size_t bytes) {
    rlimit most{};
    return getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur >= bytes;
}

void seal(int file) {
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (fcntl(file, F_ADD_SEALS, seals | F_SEAL_FUTURE_WRITE) != 0) fcntl(file, F_ADD_SEALS, seals);
}

void *map_private(std::size_t bytes) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

bool map_private_at(void *place, std::size_t bytes) {
    return mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                -1, 0) != MAP_FAILED;
}

}  // namespace

bool SharedMemory::make(std::size_t bytes) {
    struct stat made {};
    const int file = may_have(bytes) ? new_memfd() : -1;
    void *memory = MAP_FAILED;
    if (file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0 && fstat(file, &made) == 0) {
        memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    base_ = memory;
    bytes_ = bytes;
    usable_ = 0;
    if (memory != MAP_FAILED && !populate_from(0)) {
        // Before Linux 5.14 a mapping can't be given pages: all of the file gets them at once.
        if (posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0) {
            usable_ = bytes;
        } else {
            munmap(memory, bytes);
            memory = MAP_FAILED;
        }
    }
    if (memory != MAP_FAILED) {
        seal(file);
        file_ = file;
        device_ = made.st_dev;
        inode_ = made.st_ino;
        return true;
    }
    if (file >= 0) close(file);
    file_ = -1;
    base_ = map_private(bytes);
    if (base_ == MAP_FAILED) base_ = nullptr;
    usable_ = base_ == nullptr ? 0 : bytes;  // as any other memory of the process
    return base_ != nullptr;
}

bool SharedMemory::populate_from(std::size_t offset) {
    return populate(static_cast<char *>(base_) + offset, std::min(step, bytes_ - offset));
}

bool SharedMemory::make_usable(std::size_t end) {
    if (end > bytes_) return false;
    for (std::size_t usable = usable_; usable < end; usable = usable_) {
        if (!populate_from(usable)) return false;
        usable_.compare_exchange_strong(usable, std::min(usable + step, bytes_));
    }
    return true;
}

bool SharedMemory::become_private(std::size_t contents) {
    struct stat now {};
    if (file_ >= 0 && fstat(file_, &now) == 0 && now.st_dev == device_ && now.st_ino == inode_) close(file_);
    file_ = -1;
    void *copy = map_private(bytes_);
    if (copy == MAP_FAILED) {
        map_private_at(base_, bytes_);
        usable_ = 0;
        return false;
    }
    std::memcpy(copy, base_, contents);
    bool moved = mremap(copy, bytes_, bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, base_) != MAP_FAILED;
    if (!moved) {  // a filter of system calls
        moved = map_private_at(base_, bytes_);
        if (moved) std::memcpy(base_, copy, contents);
        munmap(copy, bytes_);
    }
    usable_ = moved ? bytes_ : 0;
    return moved;
}

bool SharedMemory::share_again(std::size_t contents) {
    SharedMemory fresh;
    bool made = fresh.make(bytes_) && fresh.make_usable(contents);
    if (made) {
        std::memcpy(fresh.base_, base_, contents);
        made = mremap(fresh.base_, bytes_, bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, base_) != MAP_FAILED;
    }
    if (made) {
        usable_ = fresh.usable_.load();
        file_ = fresh.file_;
        device_ = fresh.device_;
        inode_ = fresh.inode_;
    } else if (fresh.base_ != nullptr) {
        munmap(fresh.base_, bytes_);
        if (fresh.file_ >= 0) close(fresh.file_);
    }
    return made;
}

}  // namespace jemalloc_lua
