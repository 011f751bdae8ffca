#include "observe/live_file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>
#include <new>
#include <utility>

#include "base/process.h"
#include "base/text.h"
#include "config/options.h"
#include "luajit/collector.h"
#include "observe/published_file.h"
#include "observe/shared_memory.h"

namespace jemalloc_lua::live_file {
namespace {

// A child of fork() shares its memory and makes its file when it first has something to write.
enum class Own { made, due, being_made };

SharedMemory memory;
PublishedFile file;
constexpr std::size_t most_path = 1024;  // bytes that a path has room for; it may have more by chance
std::size_t header_size = 0;             // bytes before the first record
Word used_records{0};                    // how many have been in use; header->records is for readers
Word free_records{0};                    // number of the first free record, under a tag that counts changes
Word next_state{0};                      // number of the last state
std::atomic<Own> own_file{Own::made};

Header *header() {
    return static_cast<Header *>(memory.base());
}

Record *record_at(std::uint64_t number) {
    return reinterpret_cast<Record *>(static_cast<char *>(memory.base()) + header_size) + (number - 1);
}

std::uint64_t number_of(const Record *record) {
    return static_cast<std::uint64_t>(record - record_at(1)) + 1;
}

std::size_t bytes_of(std::uint64_t records) {
    return header_size + records * sizeof(Record);
}

std::uint64_t now_ns(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000 + static_cast<std::uint64_t>(time.tv_nsec);
}

// ---- What a reader is told of itself

const char *unit_name(Unit unit) {
    constexpr const char *names[] = {"bytes", "number", "index", "word", "words"};
    return names[static_cast<int>(unit)];
}

const char *kind_name(Kind kind) {
    constexpr const char *names[] = {"gauge", "bound", "counter"};
    return names[static_cast<int>(kind)];
}

// The beginning of a value's description, which the caller ends.
void add_value(Text &text, const char *name, const char *unit, const char *kind, std::size_t offset,
               std::size_t width, const char *help) {
    text.add(R"({"name":"%s","unit":"%s","kind":"%s","offset":%zu,"width":%zu,"help":"%s")", name, unit, kind,
             offset, width, help);
}

void add_statistic(Text &text, const Statistic &row) {
    add_value(text, row.name, unit_name(row.unit), kind_name(row.kind), offsetof(Record, values) + row.offset,
              row.width, row.help);
    if (row.kind == Kind::counter) text.add(R"(,"closed":%zu)", offsetof(Header, closed) + row.offset);
    if (row.head != nullptr) text.add(R"(,"head":"%s")", row.head);
    const char *between = R"(,"shown":[)";
    for (const auto &[bit, name] :
         {std::pair{in_top, "states"}, {in_process_list, "processes"}, {as_rate, "rate"}}) {
        if ((row.shown & bit) == 0) continue;
        text.add("%s\"%s\"", between, name);
        between = ",";
    }
    if (*between == ',' && between[1] == '\0') text.add("]");
    for (const char *const *word = row.words; word != nullptr && *word != nullptr; ++word) {
        text.add("%s\"%s\"", word == row.words ? R"(,"words":[)" : ",", *word);
    }
    text.add(row.words != nullptr ? "]}" : "}");
}

// JSON, two lists of values: "process" in the header, "state" in each record. The sum of a counter over
// closed states is in the header, at "closed".
void write_schema(Text &text) {
    const struct {
        const char *name;
        const char *kind;
        std::size_t offset;
        const char *help;
    } of_process[] = {
        {"states", "gauge", offsetof(Header, states), "states that are open"},
        {"states_made", "counter", offsetof(Header, states_made), "states made"},
        {"states_closed", "counter", offsetof(Header, states_closed), "states closed"},
        {"states_unlisted", "counter", offsetof(Header, states_unlisted),
         "states made that found no room for a record"},
    };
    const char *begins = R"({"process":[)";
    for (const auto &row : of_process) {
        text.add("%s", begins);
        add_value(text, row.name, "number", row.kind, row.offset, sizeof(Word), row.help);
        begins = "},";
    }
    text.add(R"(}],"state":[)");
    add_value(text, "made", "nanoseconds", "gauge", offsetof(Record, made_ns), sizeof(Word),
              "when the state was made, since 1970");
    text.add("}");
    for (const Statistic &row : statistics()) {
        text.add(",");
        add_statistic(text, row);
    }
    text.add("]}");
}

// When this process began, or 0: that, with its id, tells it from others that had its id before.
std::uint64_t process_start() {
    char text[1024];
    const int stat = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    const ssize_t length = stat < 0 ? -1 : read(stat, text, sizeof text - 1);
    if (stat >= 0) close(stat);
    if (length <= 0) return 0;
    text[length] = '\0';
    const char *field = std::strrchr(text, ')');  // the second; a name may have anything in it
    for (int number = 2; field != nullptr && number < 22; ++number) {
        field = std::strchr(field + 1, ' ');
    }
    return field == nullptr ? 0 : std::strtoull(field, nullptr, 10);
}

void fill_header() {
    Header *now = header();
    std::memcpy(now->magic, magic, sizeof magic);
    now->version = version;
    now->header_size = static_cast<std::uint32_t>(header_size);
    now->record_size = sizeof(Record);
    now->max_records = max_records;
    now->process = static_cast<std::uint64_t>(getpid());
    now->started = process_start();
    std::snprintf(now->program, sizeof now->program, "%s", program_name());
    std::snprintf(static_cast<char *>(memory.base()) + now->path, header_size - now->path, "%s", file.name());
}

// ---- The copy in the file

constexpr std::uint64_t second = 1000000000;

// Copying takes a hundredth of the time at most, once it has taken 50 ms: a disk may be slow.
constexpr std::uint64_t share = 100;
constexpr std::uint64_t allowance = second / 20;

std::atomic_flag copying;
Word next_copy_ns{0};  // the first change after that copies all records

// For the thread that has set `copying`.
std::uint64_t spent_ns = 0;  // what copying took, less the time that it may take
std::uint64_t spent_at_ns = 0;

constexpr std::size_t footprint_word = offsetof(Stats, footprint) / sizeof(Word);

// Whether what the file says of a state is far from the truth.
bool has_moved_far(const Record &record, std::uint64_t footprint) {
    const std::uint64_t copied = record.copied.load(std::memory_order_relaxed);
    const std::uint64_t distance = footprint > copied ? footprint - copied : copied - footprint;
    return distance > copied / 8 + (std::uint64_t{1} << 20);
}

void load_words(const Word *from, Word *to, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        to[i].store(from[i].load(std::memory_order_acquire), std::memory_order_relaxed);
    }
}

// Reads words that belong together, unless the record's own thread writes it all the time.
void read_record(const Record &from, Record &to) {
    for (int tries = 0; tries < 100; ++tries) {
        const std::uint64_t before = from.sequence.load(std::memory_order_acquire);
        load_words(&from.sequence, &to.sequence, sizeof(Record) / sizeof(Word));
        if (before % 2 == 0 && from.sequence.load(std::memory_order_relaxed) == before) return;
    }
    to.sequence.store(1, std::memory_order_relaxed);
}

bool copy_header(bool whole) {
    Header now;
    std::memcpy(static_cast<void *>(&now), static_cast<const void *>(header()), offsetof(Header, records));
    load_words(&header()->records, &now.records, (sizeof now - offsetof(Header, records)) / sizeof(Word));
    now.copied_ns = now_ns(CLOCK_REALTIME);
    const auto *schema = static_cast<const char *>(memory.base()) + sizeof now;
    const PublishedFile::Part parts[] = {{&now, sizeof now, 0},
                                         {schema, header_size - sizeof now, sizeof now}};
    return file.write(parts, whole ? 2 : 1, whole);
}

void copy_records(std::uint64_t first, std::uint64_t last) {
    Record batch[32];
    for (std::uint64_t number = first; number <= last;) {
        std::size_t count = 0;
        const std::uint64_t from = number;
        for (; count < std::size(batch) && number <= last; ++number, ++count) {
            read_record(*record_at(number), batch[count]);
            record_at(number)->copied = batch[count].values[footprint_word].load();
        }
        const PublishedFile::Part part{batch, count * sizeof(Record), bytes_of(from - 1)};
        file.write(&part, 1, true);
    }
}

bool may_copy(std::uint64_t now) {
    const std::uint64_t earned = (now - spent_at_ns) / share;
    spent_ns = spent_ns > earned ? spent_ns - earned : 0;
    spent_at_ns = now;
    return spent_ns <= allowance;
}

// Copies one record, or all where that is null. Where that has to wait, a later change copies all.
void copy(const Record *record) {
    if (!file.exists()) return;
    if (copying.test_and_set(std::memory_order_acquire)) {
        next_copy_ns = 0;
        return;
    }
    const std::uint64_t begin = now_ns(CLOCK_MONOTONIC);
    if (may_copy(begin)) {
        if (record == nullptr) next_copy_ns = begin + second;
        if (!copy_header(false)) {  // the file was truncated
            copy_header(true);
            record = nullptr;
        }
        const std::uint64_t number = record == nullptr ? 0 : number_of(record);
        copy_records(std::max<std::uint64_t>(number, 1), number == 0 ? used_records.load() : number);
        spent_ns += now_ns(CLOCK_MONOTONIC) - begin;
    } else {
        next_copy_ns = begin + (spent_ns - allowance) * share;
    }
    copying.clear(std::memory_order_release);
}

bool make_file() {
    if (!file.name_by_process()) return false;
    fill_header();
    const std::uint64_t used = used_records;
    header()->copied_ns = now_ns(CLOCK_REALTIME);
    const bool made = file.make(memory.base(), bytes_of(used));
    header()->copied_ns = 0;
    next_copy_ns = now_ns(CLOCK_MONOTONIC) + second;
    return made;
}

// ---- The process's beginning, its children and its end

void in_child() {
    file.forget();
    copying.clear();
    if (!memory.become_private(bytes_of(used_records))) {
        free_records = 0;  // no record is given out again
        used_records = max_records;
        own_file = Own::made;
        return;
    }
    // Other threads of the parent were writing these records; the child does not have those threads.
    for (std::uint64_t number = 1; number <= used_records; ++number) {
        Record *record = record_at(number);
        if (record->sequence % 2 != 0) ++record->sequence;
    }
    // The child has the states of its parent, but not those that had been closed before.
    Header *now = header();
    now->states_made = now->states.load();
    now->states_closed = now->states_unlisted = 0;
    for (Word &sum : now->closed) sum = 0;
    own_file = file.is_own_path() ? Own::due : Own::made;
}

[[gnu::noinline]] void make_childs_file() {
    Own due = Own::due;
    if (!own_file.compare_exchange_strong(due, Own::being_made)) {
        while (own_file == Own::being_made) sched_yield();  // another thread of the child
        return;
    }
    const int error = errno;
    memory.share_again(bytes_of(used_records));
    make_file();
    own_file = Own::made;
    errno = error;
}

void make_childs_file_if_due() {
    if (own_file.load(std::memory_order_relaxed) != Own::made) [[unlikely]]
        make_childs_file();
}

bool start() {
    const char *path = environment_settings().stats_file;
    // The user who starts a setuid program must not choose which files it makes.
    if (path[0] == '\0' || getauxval(AT_SECURE) != 0) return false;
    if (!file.set_path(path)) return false;
    char schema[8192];
    Text text(schema, sizeof schema);
    write_schema(text);
    const auto length = static_cast<std::size_t>(text.length());
    header_size = (sizeof(Header) + length + most_path + 4095) / 4096 * 4096;
    if (length >= sizeof schema || !memory.make(bytes_of(max_records)) || !memory.make_usable(header_size)) {
        std::fprintf(stderr, "jemalloc_lua: stats_file: %s; going on without the file\n",
                     std::strerror(errno));
        return false;
    }
    Header *now = new (memory.base()) Header{};
    now->schema = sizeof(Header);
    now->schema_size = static_cast<std::uint32_t>(length);
    now->path = static_cast<std::uint32_t>(sizeof(Header) + length);
    std::memcpy(static_cast<char *>(memory.base()) + sizeof(Header), schema, length);
    if (!make_file()) return false;
    static constinit ForkHandler handler{nullptr, nullptr, in_child};
    at_fork(&handler);
    return true;
}

[[gnu::destructor]] void remove_at_exit() {
    file.remove();
}

// ---- Records

constexpr std::uint64_t number_mask = 0xFFFFFFFF;

constexpr std::uint64_t next_head(std::uint64_t head, std::uint64_t number) {
    return ((head >> 32) + 1) << 32 | number;
}

// A record that was in use before, or the next one; null when there are no more.
Record *take_record() {
    std::uint64_t head = free_records;
    while ((head & number_mask) != 0) {
        Record *record = record_at(head & number_mask);
        const std::uint64_t next = record->next_free;
        if (next > used_records) break;  // another process wrote it, as it could before Linux 5.1
        if (free_records.compare_exchange_weak(head, next_head(head, next))) return record;
    }
    std::uint64_t used = used_records;
    do {
        if (used >= max_records || !memory.make_usable(bytes_of(used + 1))) return nullptr;
    } while (!used_records.compare_exchange_weak(used, used + 1));
    header()->records = used_records.load();
    return record_at(used + 1);
}

void give_record(Record *record) {
    std::uint64_t head = free_records;
    do {
        record->next_free = head & number_mask;
    } while (!free_records.compare_exchange_weak(head, next_head(head, number_of(record))));
}

// Marks a record as being written while it lives. As each word is stored with release order, none is seen
// before the odd number.
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

using Image = std::array<std::uint64_t, stats_words>;

Image image_of(const Heap &heap) {
    Stats stats = heap.stats();
    stats.live = heap.state.main == nullptr ? unknown : luajit::live_bytes(heap.state.main);
    return std::bit_cast<Image>(stats);
}

void changed(Heap &heap);

void begun(Heap &heap) {
    make_childs_file_if_due();
    ++header()->states_made;
    Record *record = take_record();
    if (record == nullptr) {
        ++header()->states_unlisted;
        static std::atomic_flag told;
        if (!told.test_and_set()) {
            std::fprintf(stderr, "jemalloc_lua: stats_file: no room for more than %" PRIu64 " states in %s\n",
                         used_records.load(), file.name());
        }
        return;
    }
    ++header()->states;
    {
        const Writing writing(record);
        Writing::set(record->state, ++next_state);
        Writing::set(record->made_ns, now_ns(CLOCK_REALTIME));
    }
    heap.state.record = record;
    changed(heap);
    copy(record);
}

void changed(Heap &heap) {
    auto *record = static_cast<Record *>(heap.state.record);
    if (record == nullptr) return;
    make_childs_file_if_due();
    const Image now = image_of(heap);
    {
        const Writing writing(record);
        for (std::size_t i = 0; i < stats_words; ++i) Writing::set(record->values[i], now[i]);
    }
    if (has_moved_far(*record, now[footprint_word])) [[unlikely]]
        copy(record);
    if (now_ns(CLOCK_MONOTONIC_COARSE) >= next_copy_ns.load(std::memory_order_relaxed)) [[unlikely]]
        copy(nullptr);
}

void ended(Heap &heap) {
    auto *record = static_cast<Record *>(heap.state.record);
    if (record == nullptr) return;
    heap.state.record = nullptr;
    make_childs_file_if_due();
    const Image last = image_of(heap);
    --header()->states;
    ++header()->states_closed;
    for (const Statistic &row : statistics()) {
        if (row.kind != Kind::counter) continue;
        const std::size_t word = row.offset / sizeof(Word);
        header()->closed[word] += last[word];
    }
    {
        const Writing writing(record);
        Writing::set(record->state, 0);
    }
    copy(record);
    give_record(record);
}

}  // namespace

void begin() {
    static constinit Once<bool> begun_once;
    begun_once.get([] {
        static constinit Observer observer{begun, changed, ended};
        if (!start()) return false;
        add_observer(observer);
        return true;
    });
}

}  // namespace jemalloc_lua::live_file
