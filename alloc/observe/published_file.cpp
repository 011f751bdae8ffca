#include "observe/published_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace jemalloc_lua {
namespace {

constexpr std::size_t magic_size = 8;

void complain(const char *path, const char *why) {
    std::fprintf(stderr, "jemalloc_lua: stats_file: %s: %s; going on without the file\n", path, why);
}

// Writes `from` with the process id for %p; false where it does not fit.
bool expand(const char *from, char *to, std::size_t size) {
    std::size_t used = 0;
    for (; *from != '\0'; ++from) {
        int length = 1;
        if (used + 1 < size) to[used] = *from;
        if (from[0] == '%' && from[1] == 'p') {
            length = std::snprintf(to + used, size - used, "%d", static_cast<int>(getpid()));
            ++from;
        }
        used += static_cast<std::size_t>(length);
        if (used >= size) return false;
    }
    to[used] = '\0';
    return true;
}

// Null where a file that begins with `magic` may be put at `path`, or why not.
const char *not_replaceable(const char *path, const char *magic) {
    struct stat there {};
    if (lstat(path, &there) != 0) return errno == ENOENT ? nullptr : std::strerror(errno);
    if (!S_ISREG(there.st_mode)) return "it is there, and no regular file";
    if (there.st_size == 0) return nullptr;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return std::strerror(errno);
    char begins[magic_size] = {};
    const bool ours =
        read(file, begins, sizeof begins) == sizeof begins && std::memcmp(begins, magic, sizeof begins) == 0;
    close(file);
    return ours ? nullptr : "it is there, and no file of statistics";
}

// A thread that the host cancels ends where the host expects it, and not in an allocation that writes a file.
class NoCancellation {
  public:
    NoCancellation() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    NoCancellation(const NoCancellation &) = delete;
    NoCancellation &operator=(const NoCancellation &) = delete;
    ~NoCancellation() { pthread_setcancelstate(before_, nullptr); }

  private:
    int before_ = PTHREAD_CANCEL_ENABLE;
};

// A write beyond `ulimit -f` sends a signal that ends the process.
bool may_have(std::size_t bytes) {
    rlimit most{};
    return getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur >= bytes;
}

bool write_all(int file, const void *from, std::size_t bytes, std::size_t offset) {
    if (!may_have(offset + bytes)) {
        errno = EFBIG;
        return false;
    }
    const auto *next = static_cast<const char *>(from);
    while (bytes > 0) {
        const ssize_t n = pwrite(file, next, bytes, static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        next += n;
        bytes -= static_cast<std::size_t>(n);
        offset += static_cast<std::size_t>(n);
    }
    return true;
}

}  // namespace

bool PublishedFile::set_path(const char *path) {
    char here[sizeof pattern_ / 2] = "";
    if (path[0] != '/' && getcwd(here, sizeof here) == nullptr) {
        complain(path, "it is relative, and the current folder has no name");
        return false;
    }
    std::snprintf(pattern_, sizeof pattern_, path[0] == '/' ? "%s%s" : "%s/%s", here, path);
    return true;
}

bool PublishedFile::is_own_path() const {
    return std::string_view(pattern_).find("%p") != std::string_view::npos;
}

bool PublishedFile::name_by_process() {
    inode_ = 0;
    if (expand(pattern_, name_, sizeof name_)) return true;
    complain(pattern_, "the path is too long");
    return false;
}

bool PublishedFile::make(const void *contents, std::size_t bytes) {
    const NoCancellation in_here;
    inode_ = 0;
    if (const char *why = not_replaceable(name_, static_cast<const char *>(contents))) {
        complain(name_, why);
        return false;
    }
    char made_as[sizeof name_ + 32];
    std::snprintf(made_as, sizeof made_as, "%s.%d.new", name_, static_cast<int>(getpid()));
    unlink(made_as);  // of a process of this id that ended right here
    const int file = open(made_as, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file < 0) {
        complain(name_, std::strerror(errno));
        return false;
    }
    struct stat made {};
    const bool done =
        write_all(file, contents, bytes, 0) && fstat(file, &made) == 0 && rename(made_as, name_) == 0;
    if (done) {
        std::memcpy(identity_, contents, sizeof identity_);
        device_ = made.st_dev;
        inode_ = made.st_ino;
        size_ = bytes;
    } else {
        complain(name_, std::strerror(errno));
        unlink(made_as);
    }
    close(file);
    return done;
}

// The file at the path, if it still is the one that was made. An inode's number may be used again, so the
// first bytes count as well: a file without any may be written, as where another process has truncated it.
int PublishedFile::open_own(std::size_t *size) const {
    const int file = open(name_, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return -1;
    struct stat now {};
    char begins[identity_size];
    bool own =
        fstat(file, &now) == 0 && S_ISREG(now.st_mode) && now.st_dev == device_ && now.st_ino == inode_;
    if (own && now.st_size != 0) {
        own = pread(file, begins, sizeof begins, 0) == sizeof begins &&
              std::memcmp(begins, identity_, sizeof begins) == 0;
    }
    if (!own) {
        close(file);
        return -1;
    }
    *size = static_cast<std::size_t>(now.st_size);
    return file;
}

bool PublishedFile::write(const Part *parts, std::size_t count, bool whole) {
    if (inode_ == 0) return true;
    const NoCancellation in_here;
    const int error = errno;
    std::size_t size = 0;
    const int file = open_own(&size);
    bool complete = true;
    if (file >= 0) {
        complete = whole || size >= size_;
        for (std::size_t i = 0; complete && i < count; ++i) {
            const Part &part = parts[i];
            if (!write_all(file, part.from, part.bytes, part.offset)) break;
            size_ = std::max(size_, part.offset + part.bytes);
        }
        close(file);
    }
    errno = error;
    return complete;
}

void PublishedFile::remove() {
    std::size_t size = 0;
    const int file = inode_ == 0 ? -1 : open_own(&size);
    if (file < 0) return;
    unlink(name_);
    close(file);
}

}  // namespace jemalloc_lua
