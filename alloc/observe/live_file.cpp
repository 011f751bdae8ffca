// The file of live statistics: how it is made, forked and removed, and how records are given out and written.
//
// A process must not be harmed by its file. So it is made under another name and renamed, which leaves one
// that another process has mapped as it was; only a regular file that is empty or of this kind is replaced;
// pages are made to exist before they are written, as a full file system would else kill the process.
//
// After fork() the child must not write its parent's file. The handler puts a private copy in its place, at
// the same addresses, so that heaps' records stay where they are; where the path has %p, the child's own file
// takes that place when it next has something to write.

#include "observe/live_file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <new>
#include <string_view>

#include "system/kernel.h"
#include "config/options.h"
#include "base/process.h"
#include "state/watch.h"

namespace jemalloc_lua::stats_file {
namespace {

constexpr std::size_t file_size = sizeof(Header) + max_records * sizeof(Record);
constexpr std::size_t grow_bytes = std::size_t{64} << 10;  // of the file are made to exist at a time

// A child of fork() makes its own file when it first has something to write.
enum class Own { made, due, being_made };

char pattern[4096];        // the absolute path, with %p
char name[4096];           // the path of this process's file
struct stat made_file {};  // that file; st_ino is 0 where there is none
Header *header = nullptr;  // mapped; never unmapped
Word usable{0};            // bytes of it that exist
Word free_records{0};      // number of the first free record, under a tag that counts changes
Word next_state{0};        // number of the last state
std::atomic<Own> own_file{Own::made};

Record *record_at(std::uint64_t number) {
    return reinterpret_cast<Record *>(header + 1) + (number - 1);
}

std::uint64_t number_of(const Record *record) {
    return static_cast<std::uint64_t>(record - reinterpret_cast<Record *>(header + 1)) + 1;
}

std::uint64_t now_ns() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000 + static_cast<std::uint64_t>(time.tv_nsec);
}

// ---- Making the file

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

// Null where a file may be put at `path`, or why not.
const char *not_replaceable(const char *path) {
    struct stat there {};
    if (lstat(path, &there) != 0) return errno == ENOENT ? nullptr : std::strerror(errno);
    if (!S_ISREG(there.st_mode)) return "it is there, and no regular file";
    if (there.st_size == 0) return nullptr;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return std::strerror(errno);
    char begins[sizeof magic] = {};
    const bool ours =
        read(file, begins, sizeof begins) == sizeof begins && std::memcmp(begins, magic, sizeof magic) == 0;
    close(file);
    return ours ? nullptr : "it is there, and no file of statistics";
}

// Makes bytes [from, from + grow_bytes) exist, so that to write them does not fail. Kernels before 5.14 know
// no way by the mapping: there the whole file is made to exist at once.
bool make_exist(char *base, std::size_t from) {
    return populate(base + from, std::min(grow_bytes, file_size - from));
}

// Maps a new file of this process with the contents of `model`, which may be null, and gives it its name.
// Null, and a line on stderr, where it can't.
Header *make_file(const Header *model) {
    const std::size_t records = model == nullptr ? 0 : model->records.load();
    const std::size_t contents = sizeof(Header) + records * sizeof(Record);
    rlimit most{};
    char made_as[sizeof name + 32];
    if (!expand(pattern, name, sizeof name)) {
        complain(pattern, "the path is too long");
        return nullptr;
    }
    const char *why = not_replaceable(name);
    if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur < file_size) why = "ulimit -f is below 9 MB";
    if (why != nullptr) {
        complain(name, why);
        return nullptr;
    }
    std::snprintf(made_as, sizeof made_as, "%s.%d.new", name, static_cast<int>(getpid()));
    unlink(made_as);  // of a process of this id that ended right here
    const int file = open(made_as, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file < 0) {
        complain(name, std::strerror(errno));
        return nullptr;
    }
    void *memory = MAP_FAILED;
    std::size_t exists = 0;
    if (ftruncate(file, file_size) == 0 && fstat(file, &made_file) == 0) {
        memory = mmap(nullptr, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (memory != MAP_FAILED) {
        auto *base = static_cast<char *>(memory);
        while (exists < contents && make_exist(base, exists)) exists += grow_bytes;
        if (exists < contents && errno == EINVAL) {
            errno = posix_fallocate(file, 0, file_size);
            if (errno == 0) exists = file_size;
        }
        if (exists < contents && errno == EFAULT) errno = ENOSPC;
    }
    if (exists >= contents) {
        auto *fresh = model == nullptr ? new (memory) Header{} : static_cast<Header *>(memory);
        if (model != nullptr) std::memcpy(memory, static_cast<const void *>(model), contents);
        std::memcpy(fresh->magic, magic, sizeof magic);
        fresh->version = version;
        fresh->header_size = sizeof(Header);
        fresh->record_size = sizeof(Record);
        fresh->max_records = max_records;
        fresh->process = static_cast<std::uint64_t>(getpid());
        fresh->started_ns = now_ns();
        std::snprintf(fresh->program, sizeof fresh->program, "%s", program_name());
        if (rename(made_as, name) == 0) {
            close(file);
            usable = std::min(exists, file_size);
            return fresh;
        }
    }
    complain(name, std::strerror(errno));
    made_file.st_ino = 0;
    if (memory != MAP_FAILED) munmap(memory, file_size);
    close(file);
    unlink(made_as);
    return nullptr;
}

// ---- The process's beginning, its children and its end

// The parent's file is replaced by private memory with its contents.
void in_child() {
    made_file.st_ino = 0;
    const std::size_t contents = sizeof(Header) + header->records.load() * sizeof(Record);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *copy = mmap(nullptr, file_size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (copy == MAP_FAILED) {  // an empty one; no record is given out again
        static_cast<void>(mmap(header, file_size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0));
        free_records = 0;
        usable = 0;
        own_file = Own::made;
        return;
    }
    std::memcpy(copy, static_cast<const void *>(header), contents);
    mremap(copy, file_size, file_size, MREMAP_MAYMOVE | MREMAP_FIXED, header);
    // What other threads of the parent were writing has no one to finish it.
    for (std::uint64_t number = 1; number <= header->records; ++number) {
        Record *record = record_at(number);
        if (record->sequence % 2 != 0) ++record->sequence;
    }
    // It has the states of its parent, but not those that had been closed before.
    header->made -= header->ended;
    header->ended = header->ended_requests = header->ended_refusals = header->ended_purged = 0;
    usable = file_size;
    own_file = std::string_view(pattern).find("%p") != std::string_view::npos ? Own::due : Own::made;
}

[[gnu::noinline]] void make_childs_file() {
    Own due = Own::due;
    if (!own_file.compare_exchange_strong(due, Own::being_made)) {
        while (own_file == Own::being_made) sched_yield();  // another thread of the child
        return;
    }
    const int error = errno;
    if (Header *own = make_file(header)) {
        mremap(own, file_size, file_size, MREMAP_MAYMOVE | MREMAP_FIXED, header);
    }
    own_file = Own::made;
    errno = error;
}

void make_childs_file_if_due() {
    if (own_file.load(std::memory_order_relaxed) != Own::made) [[unlikely]]
        make_childs_file();
}

bool start() {
    const char *path = environment_settings().stats_file;
    // Who runs a setuid program does not choose what files it makes.
    if (path[0] == '\0' || getauxval(AT_SECURE) != 0) return false;
    char here[sizeof pattern / 2] = "";
    if (path[0] != '/' && getcwd(here, sizeof here) == nullptr) {
        complain(path, "it is relative, and the current folder has no name");
        return false;
    }
    std::snprintf(pattern, sizeof pattern, path[0] == '/' ? "%s%s" : "%s/%s", here, path);
    Header *made = make_file(nullptr);
    if (made == nullptr) return false;
    header = made;
    static constinit ForkHandler handler{nullptr, nullptr, in_child};
    at_fork(&handler);
    return true;
}

[[gnu::destructor]] void remove_at_exit() {
    struct stat there {};
    if (made_file.st_ino == 0 || lstat(name, &there) != 0) return;
    if (there.st_ino == made_file.st_ino && there.st_dev == made_file.st_dev) unlink(name);
}

// ---- Records

constexpr std::uint64_t number_mask = 0xFFFFFFFF;

constexpr std::uint64_t next_head(std::uint64_t head, std::uint64_t number) {
    return ((head >> 32) + 1) << 32 | number;
}

// Whether the file's bytes up to `end` exist, or can be made to.
bool make_usable(std::size_t end) {
    for (std::size_t exists = usable; exists < end; exists = usable) {
        if (!make_exist(reinterpret_cast<char *>(header), exists)) return false;
        usable.compare_exchange_strong(exists, std::min(exists + grow_bytes, file_size));
    }
    return true;
}

// A record that was in use before, or the next one; null when there are no more.
Record *take_record() {
    std::uint64_t head = free_records;
    while ((head & number_mask) != 0) {
        Record *record = record_at(head & number_mask);
        const std::uint64_t next = record->next_free;
        if (next <= max_records && free_records.compare_exchange_weak(head, next_head(head, next)))
            return record;
        if (next > max_records) break;  // someone else wrote into the file
    }
    std::uint64_t used = header->records;
    do {
        if (used >= max_records || !make_usable(sizeof(Header) + (used + 1) * sizeof(Record))) return nullptr;
    } while (!header->records.compare_exchange_weak(used, used + 1));
    return record_at(used + 1);
}

void give_record(Record *record) {
    std::uint64_t head = free_records;
    do {
        record->next_free = head & number_mask;
    } while (!free_records.compare_exchange_weak(head, next_head(head, number_of(record))));
}

// Marks a record as being written while it lives. As each word is stored with release order, none is seen
// before the mark.
class Writing {
  public:
    explicit Writing(Record *record)
        : record_(record), before_(record->sequence.load(std::memory_order_relaxed)) {
        set(record_->sequence, before_ + 1);
    }
    Writing(const Writing &) = delete;
    Writing &operator=(const Writing &) = delete;
    ~Writing() { set(record_->sequence, before_ + 2); }

    static void set(Word &word, std::uint64_t value) { word.store(value, std::memory_order_release); }

  private:
    Record *record_;
    std::uint64_t before_;
};

}  // namespace

void begin(Heap *heap) {
    static constinit Once<bool> started;
    if (!started.get(start)) return;
    make_childs_file_if_due();
    ++header->made;
    Record *record = take_record();
    if (record == nullptr) {
        ++header->unlisted;
        static std::atomic_flag told;
        if (!told.test_and_set()) {
            std::fprintf(stderr, "jemalloc_lua: stats_file: no room for more than %llu states in %s\n",
                         static_cast<unsigned long long>(header->records.load()), name);
        }
        return;
    }
    {
        const Writing writing(record);
        Writing::set(record->state, ++next_state);
        Writing::set(record->made_ns, now_ns());
    }
    heap->record = record;
    heap->account.show_in_file(heap);
}

void show(const Heap *heap) {
    make_childs_file_if_due();
    jemalloc_lua_stats stats{};
    count_heap(heap, &stats);
    lua_State *L = heap->account.state();
    // Reads a field of LuaJIT's global state, and no more (lj_api.c, LUA_GCCOUNT).
    const std::uint64_t live =
        L == nullptr ? unknown : static_cast<std::uint64_t>(lua_gc(L, LUA_GCCOUNT, 0)) << 10;
    Record *record = heap->record;
    const Writing writing(record);
    Writing::set(record->live, live);
    Writing::set(record->footprint, stats.footprint);
    Writing::set(record->peak, stats.peak);
    Writing::set(record->limit, stats.limit);
    Writing::set(record->soft_limit, stats.soft_limit);
    Writing::set(record->requests, heap->requests);
    Writing::set(record->refusals, stats.refusals);
    Writing::set(record->gc_pushes, stats.gc_pushes);
    Writing::set(record->purged, stats.purged);
    Writing::set(record->arena, stats.arena);
    Writing::set(record->front, stats.front);
    Writing::set(record->fallbacks, stats.fallbacks);
}

void end(Heap *heap) {
    Record *record = heap->record;
    if (record == nullptr) return;
    heap->account.show_in_file(nullptr);
    heap->record = nullptr;
    jemalloc_lua_stats stats{};
    count_heap(heap, &stats);
    make_childs_file_if_due();
    ++header->ended;
    header->ended_requests += heap->requests;
    header->ended_refusals += stats.refusals;
    header->ended_purged += stats.purged;
    {
        const Writing writing(record);
        Writing::set(record->state, 0);
    }
    give_record(record);
}

}  // namespace jemalloc_lua::stats_file
