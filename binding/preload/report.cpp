// Statistics of all states of the process, printed on stderr at exit or when a signal comes.
//
// States are registered as they begin and end, off the allocation path, and only if a table is asked for.
// Printing reads the heaps' counters, which another thread may be changing, so the numbers of a running state
// are approximate. Lua is not called. Formatting and writing use neither malloc() nor stdio, so a signal
// handler can print. If a signal arrives while the register is locked, the thread that holds the lock prints
// the table.

#include "report.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>
#include <vector>

#include "state/inside.h"

namespace jemalloc_lua {
namespace {

struct OpenState {
    const Heap *heap;
    std::uint64_t number;  // in the order in which the process made them, from 1
};

struct ClosedState {
    Stats last;
    std::uint64_t number;
};

constexpr std::size_t closed_kept = 16;

// ---- Printing

// A table. It is written in whole lines, as many at once as a pipe takes in one piece (PIPE_BUF), so that the
// tables of processes that end together, as nginx's workers do, don't run into each other.
class Table {
  public:
    Table() = default;
    Table(const Table &) = delete;
    Table &operator=(const Table &) = delete;

    void begin() { used_ = 0; }
    void end() { write_lines(); }

    Table &text(std::string_view word, std::size_t width = 0) {
        for (std::size_t i = word.size(); i < width; ++i) add(' ');
        for (const char c : word) add(c);
        return *this;
    }

    Table &number(std::uint64_t value, std::size_t width = 0) {
        char digits[24];
        const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
        return text({digits, static_cast<std::size_t>(end - digits)}, width);
    }

    Table &kib(std::size_t bytes, std::size_t width) { return number((bytes + 1023) / 1024, width); }

    void end_line() {
        add('\n');
        if (sizeof text_ - used_ < longest_line) write_lines();
    }

  private:
    static constexpr std::size_t longest_line = 256;

    void add(char c) {
        if (used_ < sizeof text_) text_[used_++] = c;
    }

    void write_lines() {
        for (std::size_t done = 0; done < used_;) {
            const ssize_t n = write(STDERR_FILENO, text_ + done, used_ - done);
            if (n < 0 && errno != EINTR) break;
            if (n > 0) done += static_cast<std::size_t>(n);
        }
        used_ = 0;
    }

    char text_[PIPE_BUF];
    std::size_t used_ = 0;
};

struct Register {
    std::mutex lock;
    std::vector<OpenState> open;
    std::array<ClosedState, closed_kept> closed;  // a ring: the last ones
    std::uint64_t made = 0;
    std::uint64_t ended = 0;
    std::atomic<bool> asked{false};  // a signal came while the lock was held
    Table table;                     // not on the stack, which may be small where a signal comes
};

// Never destroyed: states may be closed after static destructors have run.
alignas(Register) std::byte storage[sizeof(Register)];
Register *states = nullptr;  // null where no report is asked for

std::size_t width_of(const Statistic &column) {
    if (column.unit == Unit::bytes) return 10;
    return std::max(std::strlen(column.head) + 2, std::size_t{7});
}

// The head of a column without the brackets around the key that sorts by it elsewhere.
void add_head(Table &table, const Statistic &column) {
    char head[24];
    std::size_t length = 0;
    for (const char *c = column.head; *c != '\0' && length < sizeof head; ++c) {
        if (*c != '[' && *c != ']') head[length++] = *c;
    }
    table.text({head, length}, width_of(column));
}

void add_value(Table &table, const Statistic &column, std::uint64_t value) {
    if (column.unit == Unit::word) {
        table.text(word_of(column, value), width_of(column));
    } else if (column.unit == Unit::bytes) {
        table.kib(value, width_of(column));
    } else {
        table.number(value, width_of(column));
    }
}

// Calls f for each column: names first, then indices, then what is counted.
template <class F>
void each_column(F &&f) {
    const auto place = [](Unit unit) { return unit == Unit::word ? 0 : unit == Unit::index ? 1 : 2; };
    for (int at = 0; at <= 2; ++at) {
        for (const Statistic &row : statistics()) {
            if ((row.shown & in_report) != 0 && place(row.unit) == at) f(row);
        }
    }
}

// A closed state holds nothing: the word "closed" stands in place of the first count of bytes.
void add_row(Table &table, std::uint64_t number, const Stats &stats, bool open) {
    table.number(number, 7);
    bool told = open;
    each_column([&](const Statistic &column) {
        if (!told && column.unit == Unit::bytes) {
            table.text("closed", width_of(column));
            told = true;
        } else {
            add_value(table, column, value_of(stats, column));
        }
    });
    table.end_line();
}

// The caller holds the lock.
void print_states(Register &r) {
    Table &table = r.table;
    table.begin();
    table.text("jemalloc_lua: process ").number(static_cast<std::uint64_t>(getpid())).text(" (");
    table.text(program_name()).text("): ").number(r.open.size()).text(" states open, ");
    table.number(r.ended).text(" closed; sizes in KiB").end_line();
    table.text("state", 7);
    each_column([&](const Statistic &column) { add_head(table, column); });
    table.end_line();
    const std::uint64_t first = r.ended > closed_kept ? r.ended - closed_kept : 0;
    for (std::uint64_t i = first; i < r.ended; ++i) {
        const ClosedState &state = r.closed[i % closed_kept];
        add_row(table, state.number, state.last, false);
    }
    for (const OpenState &state : r.open) {
        Stats stats{};
        count_heap(state.heap, &stats);
        add_row(table, state.number, stats, true);
    }
    table.end();
}

// ---- Bookkeeping

// Answers the signals that come while it is locked, up to the very end.
void unlock() {
    do {
        while (states->asked.exchange(false)) print_states(*states);
        states->lock.unlock();
    } while (states->asked && states->lock.try_lock());
}

class Guard {
  public:
    Guard() { states->lock.lock(); }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;
    ~Guard() { unlock(); }
};

void begun(Heap &heap) {
    const Guard guard;
    states->open.push_back({&heap, ++states->made});
}

void ended(Heap &heap) {
    const Guard guard;
    const auto found = std::find_if(states->open.rbegin(), states->open.rend(),
                                    [&](const OpenState &state) { return state.heap == &heap; });
    if (found == states->open.rend()) return;
    ClosedState &place = states->closed[states->ended++ % closed_kept];
    place.number = found->number;
    count_heap(&heap, &place.last);
    states->open.erase(std::next(found).base());
}

void on_signal(int) {
    const int error = errno;
    states->asked = true;
    if (states->lock.try_lock()) unlock();
    errno = error;
}

// A host that has a use of its own for the signal keeps it.
void take_signal(int number) {
    struct sigaction now {};
    if (sigaction(number, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) return;
    now.sa_handler = on_signal;
    now.sa_flags = SA_RESTART | SA_ONSTACK;
    sigaction(number, &now, nullptr);
}

bool start() {
    const Settings &settings = environment_settings();
    if (settings.stats_print == 0 && settings.stats_signal == 0) return false;
    states = new (storage) Register;
    // A child of fork() has the states of its parent, but not those that had been closed before.
    static constinit ForkHandler handler{[] { states->lock.lock(); }, unlock,
                                         [] {
                                             states->ended = 0;
                                             states->asked = false;
                                             states->lock.unlock();
                                         }};
    at_fork(&handler);
    static constinit Observer observer{begun, nullptr, ended};
    add_observer(observer);
    if (settings.stats_signal != 0) take_signal(settings.stats_signal);
    return true;
}

[[gnu::destructor]] void at_exit() {
    if (states == nullptr || environment_settings().stats_print == 0) return;
    const Guard guard;
    print_states(*states);
}

}  // namespace

void prepare_report() {
    static constinit Once<bool> started;
    started.get(start);
}

}  // namespace jemalloc_lua
