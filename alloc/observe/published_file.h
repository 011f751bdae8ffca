// The file of this process at JEMALLOC_LUA_CONF=stats_file:PATH: how it is made, written and removed.
//
// The process holds neither a mapping nor a descriptor of it. A mapping would end the process by SIGBUS when
// the file is truncated, or its disk is full or fails. A descriptor could be closed by the host, and its
// number then be that of a file of the host's. So each write opens the file, looks whether it still is the
// one that was made, and closes it; a write that fails changes nothing but the file.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace jemalloc_lua {

class PublishedFile {
  public:
    // The path as JEMALLOC_LUA_CONF has it; a relative one begins in the present folder. False, and a line on
    // stderr: the folder has no name.
    bool set_path(const char *path);

    // Whether each process has a path of its own: it has %p in it.
    bool is_own_path() const;

    // Puts this process's id into the path. False, and a line on stderr: it is too long.
    bool name_by_process();

    // Makes the file with these contents, whose first bytes say whose file it is, under another name, and
    // gives it its name: so a reader never finds half of it. Replaces only an empty file or one of this kind.
    // False, and a line on stderr, where it can't; later writes then do nothing.
    bool make(const void *contents, std::size_t bytes);

    // A part of the contents, to be written at `offset`.
    struct Part {
        const void *from;
        std::size_t bytes;
        std::size_t offset;
    };

    // Writes parts. False: the file has lost what was written before, as by truncation, and all must be
    // written again, which `whole` says is being done.
    bool write(const Part *parts, std::size_t count, bool whole);

    bool exists() const { return inode_ != 0; }
    void remove();
    // The file is the parent's, not that of this child of fork().
    void forget() { inode_ = 0; }

    const char *name() const { return name_; }

  private:
    static constexpr std::size_t identity_size = 32;

    int open_own(std::size_t *size) const;

    char pattern_[4096] = "";         // the absolute path, with %p
    char name_[4096] = "";            // the path of this process's file
    char identity_[identity_size]{};  // the file's first bytes
    dev_t device_ = 0;
    ino_t inode_ = 0;  // 0: there is no file
    std::size_t size_ = 0;
};

}  // namespace jemalloc_lua
