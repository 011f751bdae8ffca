// luajit's option grammar, by hand because it is like no other: values glued on or apart by letter, -b that
// swallows the rest, -O whose value is optional, all of it ended by the first word without a dash.

#include "command_line.h"

#include <cstdio>
#include <cstring>
#include <string_view>

namespace jemalloc_lua::command {
namespace {

using std::string_view;

class Reader {
  public:
    Reader(CommandLine *line, std::string *why) : line_(*line), why_(*why) {}

    Verdict read() {
        char **argv = line_.argv;
        for (at_ = 1; at_ < line_.argc; ++at_) {
            const string_view word = argv[at_];
            if (!word.starts_with('-') || word == "-") break;
            if (word == "--") {
                ++at_;
                break;
            }
            const Verdict verdict = word.starts_with("--jemalloc") ? long_option(word) : letter(word);
            if (verdict != Verdict::good) return verdict;
            if (line_.bytecode != 0) {
                ++at_;
                break;
            }
        }
        line_.script = at_;
        return check();
    }

  private:
    Verdict letter(string_view word) {
        const bool tail = word.size() > 2;
        switch (word[1]) {
            case 'i':
                line_.interactive = true;
                [[fallthrough]];
            case 'v':
                line_.version = true;
                return tail ? Verdict::usage : Verdict::good;
            case 'E':
                line_.ignore_environment = true;
                return Verdict::good;
            case 'e':
                line_.executes = true;
                return action(Action::Kind::chunk);
            case 'l':
                return action(Action::Kind::library);
            case 'j':
                return action(Action::Kind::jit_command);
            case 'O':
                line_.actions.push_back({Action::Kind::optimisation, word.data() + 2});
                return Verdict::good;
            case 'b':
                // Bytecode is saved by a fresh state: only -O may come before.
                if (line_.version || line_.ignore_environment || takes_value_) return Verdict::usage;
                line_.executes = true;
                line_.bytecode = at_;
                return Verdict::good;
            default:
                return Verdict::usage;
        }
    }

    // An option whose value is glued to it or is the next word.
    Verdict action(Action::Kind kind) {
        takes_value_ = true;
        const char *text = line_.argv[at_] + 2;
        if (*text == '\0') text = line_.argv[++at_];
        if (text == nullptr) return Verdict::usage;
        line_.actions.push_back({kind, text});
        return Verdict::good;
    }

    Verdict long_option(string_view word) {
        const std::size_t equals = word.find('=');
        const string_view name = word.substr(0, equals);
        const char *glued = equals == string_view::npos ? nullptr : word.data() + equals + 1;
        if (name == "--jemalloc") {
            const char *conf = value(glued);
            if (conf == nullptr) return misuse("--jemalloc takes key:value,key:value (see --jemalloc-help)");
            line_.conf.push_back(conf);
            return Verdict::good;
        }
        if (name == "--jemalloc-stats") {
            const string_view format = glued == nullptr ? "table" : glued;
            if (format != "table" && format != "json") {
                return misuse("--jemalloc-stats: '" + std::string(format) +
                              "' is not valid; it takes =table, =json or nothing");
            }
            line_.stats = format == "json" ? Stats::json : Stats::table;
            return Verdict::good;
        }
        if (name == "--jemalloc-record") {
            line_.record = value(glued);
            if (line_.record == nullptr || *line_.record == '\0') {
                return misuse("--jemalloc-record takes the name of a file to write");
            }
            return Verdict::good;
        }
        if (name == "--jemalloc-allocator") {
            const char *choice = value(glued);
            return allocator(choice == nullptr ? "" : choice);
        }
        if (name == "--jemalloc-help") {
            if (glued != nullptr) return misuse("--jemalloc-help takes no value");
            line_.help = true;
            return Verdict::good;
        }
        return misuse("unknown option " + std::string(name) +
                      "; there are --jemalloc, --jemalloc-stats, --jemalloc-record, --jemalloc-allocator "
                      "and --jemalloc-help");
    }

    const char *value(const char *glued) { return glued != nullptr ? glued : line_.argv[++at_]; }

    Verdict allocator(string_view name) {
        if (name == "heap") {
            line_.allocator = Allocator::heap;
        } else if (name == "builtin") {
            line_.allocator = Allocator::built_in;
        } else if (name == "system") {
            line_.allocator = Allocator::system;
        } else {
            return misuse("--jemalloc-allocator: '" + std::string(name) +
                          "' is not valid; it takes heap, builtin or system");
        }
        return Verdict::good;
    }

    Verdict check() {
        if (line_.allocator != Allocator::heap && (!line_.conf.empty() || line_.stats != Stats::none)) {
            return misuse(std::string(line_.conf.empty() ? "--jemalloc-stats" : "--jemalloc") +
                          " is for this library's heap: it takes --jemalloc-allocator heap, the default");
        }
        return Verdict::good;
    }

    Verdict misuse(std::string why) {
        why_ = std::move(why);
        return Verdict::misuse;
    }

    CommandLine &line_;
    std::string &why_;
    int at_ = 1;
    bool takes_value_ = false;  // -e, -l or -j was seen
};

}  // namespace

Verdict read_command_line(int argc, char **argv, CommandLine *line, std::string *why) {
    line->argc = argc;
    line->argv = argv;
    return Reader(line, why).read();
}

void print_usage(const char *program) {
    std::fprintf(stderr, "usage: %s [options]... [script [args]...].\n%s", program,
                 "Available options are:\n"
                 "  -e chunk  Execute string 'chunk'.\n"
                 "  -l name   Require library 'name'.\n"
                 "  -b ...    Save or list bytecode.\n"
                 "  -j cmd    Perform LuaJIT control command.\n"
                 "  -O[opt]   Control LuaJIT optimizations.\n"
                 "  -i        Enter interactive mode after executing 'script'.\n"
                 "  -v        Show version information.\n"
                 "  -E        Ignore environment variables.\n"
                 "  --        Stop handling options.\n"
                 "  -         Execute stdin and stop handling options.\n"
                 "  --jemalloc CONF            Set heap options, as in front:slab,limit:64M.\n"
                 "  --jemalloc-stats[=json]    Print the heap's statistics on stderr at exit.\n"
                 "  --jemalloc-record FILE     Record every request; tools/replay of the source replays it.\n"
                 "  --jemalloc-allocator NAME  heap (this library's), builtin (LuaJIT's) or system.\n"
                 "  --jemalloc-help            Show every heap option.\n");
}

}  // namespace jemalloc_lua::command
