// Options as text: what each key takes, what it refuses and how it says so, and how options are printed.

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "support.h"

namespace {

using testing::TestWithParam;
using testing::Values;
using Options = jemalloc_lua_options;

Options defaults() {
    Options options;
    jemalloc_lua_options_init(&options);
    return options;
}

// What the parser says to `conf`; "" for nothing to complain of.
std::string complaint(Options *options, const std::string &conf) {
    char err[1024] = "";
    const int status = jemalloc_lua_options_parse(options, conf.c_str(), err, sizeof err);
    EXPECT_EQ(status == 0, err[0] == '\0') << conf << ": " << err;
    if (status != 0) {
        EXPECT_EQ(EINVAL, status);
    }
    return err;
}

std::string format(const Options &options, bool all) {
    const int length = jemalloc_lua_options_format(&options, all, nullptr, 0);
    std::string text(static_cast<std::size_t>(length) + 1, '?');
    EXPECT_EQ(length, jemalloc_lua_options_format(&options, all, text.data(), text.size()));
    EXPECT_EQ('\0', text.back());
    text.pop_back();
    return text;
}

bool same(const Options &a, const Options &b) {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

// ---- Each key

struct Key {
    const char *key;
    const char *initial;  // as text
    // Text that is read, and how it is printed again.
    std::vector<std::pair<std::string, std::string>> good;
    std::vector<std::string> bad;
};

void PrintTo(const Key &key, std::ostream *out) {
    *out << key.key;
}

const std::vector<std::string> no_size = {"",
                                          "-1",
                                          "1.5",
                                          "12Q",
                                          "K",
                                          "1KB",
                                          "1 K",
                                          " 1",
                                          "+1",
                                          "0x10",
                                          "ten",
                                          "1K ",
                                          "1e3",
                                          "M1",
                                          "1KK",
                                          "--1",
                                          "9223372036854775808",
                                          "99999999999999999999999",
                                          "9000000000G"};

std::vector<std::string> and_these(std::vector<std::string> list, const std::vector<std::string> &more) {
    list.insert(list.end(), more.begin(), more.end());
    return list;
}

class EachKey : public TestWithParam<Key> {};

TEST_P(EachKey, HasItsDefault) {
    EXPECT_NE(std::string::npos,
              ("," + format(defaults(), true) + ",")
                  .find("," + std::string(GetParam().key) + ":" + GetParam().initial + ","))
        << format(defaults(), true);
}

TEST_P(EachKey, TakesItsValuesAndPrintsThemAgain) {
    for (const auto &[text, printed] : GetParam().good) {
        const std::string key = GetParam().key;
        Options options = defaults();
        EXPECT_EQ("", complaint(&options, key + ":" + text));
        const std::string wanted = printed == GetParam().initial ? "" : key + ":" + printed;
        EXPECT_EQ(wanted, format(options, false)) << text;
    }
}

TEST_P(EachKey, RefusesWhatItDoesNotTakeAndSaysWhatItTakes) {
    for (const std::string &text : GetParam().bad) {
        Options options = defaults();
        const std::string conf = "retain:7," + std::string(GetParam().key) + ":" + text;
        const std::string message = complaint(&options, conf);
        EXPECT_NE(std::string::npos, message.find(GetParam().key)) << conf << ": " << message;
        EXPECT_NE(std::string::npos, message.find("takes")) << conf << ": " << message;
        EXPECT_TRUE(same(defaults(), options)) << conf << " left its traces";
    }
}

TEST_P(EachKey, StandsInTheHelpWithItsDefault) {
    std::string help(static_cast<std::size_t>(jemalloc_lua_options_help(nullptr, 0)) + 1, '\0');
    jemalloc_lua_options_help(help.data(), help.size());
    const std::size_t line = ("\n" + help).find("\n" + std::string(GetParam().key) + " ");
    ASSERT_NE(std::string::npos, line) << help;
    EXPECT_NE(std::string::npos, help.substr(line, help.find('\n', line) - line).find(GetParam().initial));
}

INSTANTIATE_TEST_SUITE_P(
    , EachKey,
    Values(Key{"front",
               "slab",
               {{"slab", "slab"}, {"direct", "direct"}, {"checked", "checked"}},
               {"", "Slab", "1", "mimalloc", "direct "}},
           Key{"arena",
               "auto",
               {{"auto", "auto"},
                {"own", "own"},
                {"shared", "shared"},
                {"thread", "thread"},
                {"0", "0"},
                {"17", "17"},
                {"4094", "4094"}},
               {"", "-1", "-2", "4095", "99999999999999999999", "1K", "1.5", "Own", "none", "own "}},
           Key{"tcache", "own", {{"own", "own"}, {"none", "none"}}, {"", "0", "thread", "auto", "NONE"}},
           Key{"arena_threshold",
               "4M",
               {{"0", "0"}, {"1M", "1M"}, {"1024K", "1M"}, {"5000", "5000"}, {"2G", "2G"}},
               no_size},
           Key{"limit",
               "0",
               {{"0", "0"},
                {"1", "1"},
                {"64M", "64M"},
                {"64m", "64M"},
                {"3k", "3K"},
                {"1g", "1G"},
                {"1536K", "1536K"},
                {"9223372036854775807", "9223372036854775807"},
                {"8589934591G", "8589934591G"}},
               no_size},
           Key{"soft_limit", "0", {{"0", "0"}, {"48M", "48M"}, {"49152K", "48M"}}, no_size},
           Key{"retain",
               "100",
               {{"0", "0"}, {"100", "100"}, {"10000", "10000"}},
               {"", "-1", "10001", "50%", "1K", "1.5", "4294967396", "99999999999999999999"}},
           Key{"nursery",
               "128K",
               {{"16K", "16K"}, {"64K", "64K"}, {"1M", "1M"}},
               and_these(no_size, {"0", "16383", "1025K", "1G"})},
           Key{"slab",
               "32K",
               {{"16K", "16K"}, {"32768", "32K"}, {"1M", "1M"}},
               and_these(no_size, {"0", "8K", "2M", "24K", "33K", "32767", "1000000"})},
           Key{"small_max",
               "1K",
               {{"528", "528"}, {"768", "768"}, {"1024", "1K"}},
               and_these(no_size, {"0", "512", "527", "540", "1000", "1025", "2K"})},
           Key{"huge_min",
               "256K",
               {{"64K", "64K"}, {"256K", "256K"}, {"1G", "1G"}},
               and_these(no_size, {"0", "65535"})},
           Key{"dirty_decay_ms",
               "default",
               {{"default", "default"}, {"-1", "-1"}, {"0", "0"}, {"10000", "10000"}},
               {"", "-2", "1s", "1K", "1.5", "never", "99999999999999999999", "9223372036854775807"}},
           Key{"muzzy_decay_ms",
               "default",
               {{"default", "default"}, {"-1", "-1"}, {"0", "0"}, {"10000", "10000"}},
               {"", "-2", "1s", "1K", "1.5", "never", "99999999999999999999", "9223372036854775807"}},
           Key{"thp",
               "default",
               {{"default", "default"}, {"always", "always"}, {"never", "never"}},
               {"", "1", "true", "Always"}},
           Key{"scrub", "false", {{"true", "true"}, {"false", "false"}}, {"", "1", "0", "yes", "TRUE"}},
           Key{"harden", "false", {{"true", "true"}, {"false", "false"}}, {"", "1", "0", "yes", "TRUE"}}),
    [](const auto &info) { return std::string(info.param.key); });

// ---- The header

// What the public header's comments say of defaults, as `key:value` text. A field without a comment shares
// the one before it.
std::string defaults_of_the_header() {
    std::ifstream file(TEST_HEADER);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::size_t begin = text.find("typedef struct jemalloc_lua_options {");
    const std::string fields = text.substr(begin, text.find("} jemalloc_lua_options;") - begin);
    const std::regex part(R"(/\*([^]*?)\*/|(?:int|unsigned|size_t|intptr_t) (\w+);)");
    const std::regex initial(R"(Default:[\s*]+(\w+)(?:[\s*]+([KM])iB)?)");
    std::string conf;
    std::string comment;
    for (std::sregex_iterator at(fields.begin(), fields.end(), part), end; at != end; ++at) {
        const std::string key = (*at)[2];
        if (key.empty()) comment = (*at)[1];
        if (key.empty() || key == "size") continue;
        std::smatch found;
        EXPECT_TRUE(std::regex_search(comment, found, initial)) << key << ": " << comment;
        const std::string value = found[1] == "JEMALLOC_LUA_DECAY_DEFAULT" ? "default" : found[1].str();
        conf += (conf.empty() ? "" : ",") + key + ":" + value + found[2].str();
    }
    return conf;
}

TEST(Header, SaysTheDefaultsOfTheTableInItsOrder) {
    const std::string table = format(defaults(), true);
    EXPECT_EQ(std::regex_replace(table, std::regex("(scrub|harden):false"), "$1:0"),
              defaults_of_the_header());
}

// ---- The whole text

TEST(Parse, SetsEveryField) {
    const Options options = test::options(
        "front:checked,arena:thread,tcache:thread,arena_threshold:2M,limit:64M,soft_limit:32M,retain:50,"
        "nursery:256K,slab:16K,small_max:768,huge_min:1M,dirty_decay_ms:5,muzzy_decay_ms:-1,thp:never,"
        "scrub:true");
    EXPECT_EQ(sizeof options, options.size);
    EXPECT_EQ(JEMALLOC_LUA_FRONT_CHECKED, options.front);
    EXPECT_EQ(JEMALLOC_LUA_ARENA_THREAD, options.arena);
    EXPECT_EQ(JEMALLOC_LUA_TCACHE_THREAD, options.tcache);
    EXPECT_EQ(2 * test::M, options.arena_threshold);
    EXPECT_EQ(64 * test::M, options.limit);
    EXPECT_EQ(32 * test::M, options.soft_limit);
    EXPECT_EQ(50u, options.retain);
    EXPECT_EQ(256 * test::K, options.nursery);
    EXPECT_EQ(16 * test::K, options.slab);
    EXPECT_EQ(768u, options.small_max);
    EXPECT_EQ(test::M, options.huge_min);
    EXPECT_EQ(5, options.dirty_decay_ms);
    EXPECT_EQ(-1, options.muzzy_decay_ms);
    EXPECT_EQ(JEMALLOC_LUA_THP_NEVER, options.thp);
    EXPECT_NE(0, options.scrub);
    EXPECT_EQ(0, options.harden);
    EXPECT_NE(0, test::options("harden:true").harden);
}

TEST(Parse, ChangesNothingForEmptyText) {
    Options options = test::options("limit:5M");
    EXPECT_EQ("", complaint(&options, ""));
    EXPECT_TRUE(same(test::options("limit:5M"), options));
}

TEST(Parse, KeepsWhatWasSetBefore) {
    Options options = test::options("limit:5M,thp:never");
    EXPECT_EQ("", complaint(&options, "limit:6M"));
    EXPECT_EQ(6 * test::M, options.limit);
    EXPECT_EQ(JEMALLOC_LUA_THP_NEVER, options.thp);
}

TEST(Parse, TakesTheLastOfTwoPairsWithOneKey) {
    EXPECT_EQ(2 * test::M, test::options("limit:1M,limit:2M").limit);
}

TEST(Parse, TakesAValueInQuotes) {
    Options options = defaults();
    EXPECT_EQ("", complaint(&options, "limit:'8M',retain:\"50\""));
    EXPECT_EQ(std::size_t{8} << 20, options.limit);
    EXPECT_EQ(50U, options.retain);
    for (const char *conf : {"limit:'8M", "limit:'8M'x", "limit:'8M\"", "limit:'", "limit:'8M,retain:50"}) {
        EXPECT_NE(std::string::npos, complaint(&options, conf).find("not a value in quotes")) << conf;
    }
    EXPECT_NE(std::string::npos, complaint(&options, "limit:'8M,retain:50'").find("limit: '8M,retain:50'"));
}

TEST(Parse, RefusesTextThatIsNotPairs) {
    const std::pair<const char *, const char *> cases[] = {
        {"limits:1M", "limits"},
        {"LIMIT:1M", "LIMIT"},
        {" limit:1M", " limit"},
        {":1M", "unknown key"},
        {"stats_file:/tmp/a",
         "stats_file is of the process as a whole: it is read from the variable JEMALLOC_LUA_CONF"},
        {"limit", "limit"},
        {"retain:7,limit", "limit"},
        {",", "empty pair"},
        {"limit:1M,", "empty pair"},
        {",limit:1M", "empty pair"},
        {"limit:1M,,retain:7", "empty pair"},
        {"limit=1M", "limit=1M"},
        {"limit:1M:2M", "limit"},
        {"limit:1M;retain:7", "limit"},
    };
    for (const auto &[conf, named] : cases) {
        Options options = defaults();
        const std::string message = complaint(&options, conf);
        EXPECT_NE(std::string::npos, message.find(named)) << conf << ": " << message;
        EXPECT_TRUE(same(defaults(), options)) << conf;
    }
}

TEST(Parse, WantsArenaThreadForTcacheThread) {
    for (const char *conf : {"tcache:thread", "tcache:thread,arena:own", "arena:auto,tcache:thread"}) {
        Options options = defaults();
        const std::string message = complaint(&options, conf);
        EXPECT_NE(std::string::npos, message.find("tcache:thread")) << message;
        EXPECT_NE(std::string::npos, message.find("arena:thread")) << message;
        EXPECT_TRUE(same(defaults(), options));
    }
    Options options = defaults();
    EXPECT_EQ("", complaint(&options, "tcache:thread,arena:thread"));
}

TEST(Parse, HardensTheSlabFrontAlone) {
    for (const char *conf : {"front:direct,harden:true", "harden:true,front:checked"}) {
        Options options = defaults();
        const std::string message = complaint(&options, conf);
        EXPECT_NE(std::string::npos, message.find("front:slab alone")) << message;
        EXPECT_TRUE(same(defaults(), options));
    }
    Options options = defaults();
    options.front = JEMALLOC_LUA_FRONT_DIRECT;
    options.harden = 1;
    EXPECT_EQ(nullptr, jemalloc_lua_heap_create(&options));
}

TEST(Parse, NeedsNoPlaceForTheMessage) {
    Options options = defaults();
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, "limit:12Q", nullptr, 0));
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, "limit:12Q", nullptr, 100));
    EXPECT_EQ(0, jemalloc_lua_options_parse(&options, "limit:12M", nullptr, 0));
}

TEST(Parse, CutsTheMessageToItsPlace) {
    Options options = defaults();
    char err[16];
    std::memset(err, '#', sizeof err);
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, "limit:12Q", err, 0));
    EXPECT_EQ('#', err[0]);
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, "limit:12Q", err, 8));
    EXPECT_EQ(7u, std::strlen(err));
    EXPECT_EQ('#', err[8]);
}

TEST(Parse, RefusesNullPointers) {
    Options options = defaults();
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(nullptr, "limit:1M", nullptr, 0));
    EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, nullptr, nullptr, 0));
}

// ---- The struct's size

// The caller's header may be an older one.
TEST(Options, AreSetUpToTheCallersSizeAndNoFurther) {
    Options mine;
    for (const std::size_t size : {sizeof(std::size_t), sizeof(Options) - 16, sizeof(Options)}) {
        std::memset(&mine, '#', sizeof mine);
        jemalloc_lua_options_init_size(&mine, size);
        EXPECT_EQ(size, mine.size);
        const auto *bytes = reinterpret_cast<const char *>(&mine);
        EXPECT_EQ(std::string(sizeof mine - size, '#'), std::string(bytes + size, sizeof mine - size));
    }
    Options defaults;
    jemalloc_lua_options_init(&defaults);
    EXPECT_TRUE(same(defaults, mine));
    (jemalloc_lua_options_init)(&mine);
    EXPECT_LE(mine.size, sizeof mine);
    EXPECT_EQ(0, jemalloc_lua_options_parse(&mine, "harden:true", nullptr, 0)) << "an option of version 1.0";
    EXPECT_EQ(1, mine.harden);
}

// ... or a newer one.
TEST(Options, AreZeroWhereTheyAreNotKnown) {
    struct {
        Options known;
        char added[16];
    } later;
    std::memset(static_cast<void *>(&later), '#', sizeof later);
    jemalloc_lua_options_init_size(&later.known, sizeof later);
    EXPECT_EQ(sizeof later, later.known.size);
    EXPECT_EQ(std::string(sizeof later.added, '\0'), std::string(later.added, sizeof later.added));
}

TEST(StructSize, OfZeroOrLessThanTheFirstVersionIsRefused) {
    for (const std::size_t size : {std::size_t{0}, sizeof(std::size_t), sizeof(Options) / 2}) {
        Options options = defaults();
        options.size = size;
        EXPECT_EQ(EINVAL, jemalloc_lua_options_parse(&options, "limit:1M", nullptr, 0));
        EXPECT_EQ(0u, options.limit);
        errno = 0;
        EXPECT_EQ(nullptr, jemalloc_lua_newstate_opts(&options));
        EXPECT_EQ(EINVAL, errno);
        errno = 0;
        EXPECT_EQ(nullptr, jemalloc_lua_heap_create(&options));
        EXPECT_EQ(EINVAL, errno);
    }
}

TEST(StructSize, OfALaterVersionIsTakenAndItsNewFieldsAreLeftAlone) {
    struct Later {
        Options known = defaults();
        char added[64];
    } later;
    std::memset(later.added, '#', sizeof later.added);
    later.known.size = sizeof later;
    EXPECT_EQ(0, jemalloc_lua_options_parse(&later.known, "limit:1M", nullptr, 0));
    EXPECT_EQ(test::M, later.known.limit);
    EXPECT_EQ(sizeof later, later.known.size);
    EXPECT_EQ(std::string(sizeof later.added, '#'), std::string(later.added, sizeof later.added));
    const test::State state(jemalloc_lua_newstate_opts(&later.known));
    EXPECT_NE(nullptr, state);
}

// ---- Printing

TEST(Format, OfDefaultsIsEmptyUnlessAllAreAskedFor) {
    EXPECT_EQ("", format(defaults(), false));
    Options options = defaults();
    EXPECT_EQ("", complaint(&options, format(defaults(), true)));
    EXPECT_TRUE(same(defaults(), options));
}

TEST(Format, WritesAsSnprintfDoes) {
    const Options options = test::options("limit:64M");
    char buf[8];
    std::memset(buf, '#', sizeof buf);
    EXPECT_EQ(9, jemalloc_lua_options_format(&options, 0, buf, 0));
    EXPECT_EQ('#', buf[0]);
    EXPECT_EQ(9, jemalloc_lua_options_format(&options, 0, buf, 6));
    EXPECT_STREQ("limit", buf);
    EXPECT_EQ('#', buf[6]);
}

TEST(Help, WritesAsSnprintfDoes) {
    char buf[16];
    std::memset(buf, '#', sizeof buf);
    const int length = jemalloc_lua_options_help(nullptr, 0);
    EXPECT_GT(length, 500);
    EXPECT_EQ(length, jemalloc_lua_options_help(buf, 8));
    EXPECT_EQ(7u, std::strlen(buf));
    EXPECT_EQ('#', buf[8]);
}

// ---- Options set by hand

TEST(OutOfRange, IsRefusedByTheStruct) {
    const auto refused = [](auto change) {
        Options options = defaults();
        change(options);
        errno = 0;
        const test::State state(jemalloc_lua_newstate_opts(&options));
        const int error = errno;
        return state == nullptr && error == EINVAL;
    };
    EXPECT_TRUE(refused([](Options &o) { o.front = 3; }));
    EXPECT_TRUE(refused([](Options &o) { o.front = -1; }));
    EXPECT_TRUE(refused([](Options &o) { o.arena = -5; }));
    EXPECT_TRUE(refused([](Options &o) { o.arena = 4094; }));  // no such arena
    EXPECT_TRUE(refused([](Options &o) { o.tcache = 3; }));
    EXPECT_TRUE(refused([](Options &o) { o.tcache = JEMALLOC_LUA_TCACHE_THREAD; }));
    EXPECT_TRUE(refused([](Options &o) { o.limit = SIZE_MAX; }));
    EXPECT_TRUE(refused([](Options &o) { o.retain = 10001; }));
    EXPECT_TRUE(refused([](Options &o) { o.nursery = 0; }));
    EXPECT_TRUE(refused([](Options &o) { o.slab = 48 * test::K; }));
    EXPECT_TRUE(refused([](Options &o) { o.small_max = 2048; }));
    EXPECT_TRUE(refused([](Options &o) { o.small_max = 512; }));
    EXPECT_TRUE(refused([](Options &o) { o.huge_min = 1; }));
    EXPECT_TRUE(refused([](Options &o) { o.dirty_decay_ms = -2; }));
    EXPECT_TRUE(refused([](Options &o) { o.muzzy_decay_ms = -2; }));
    EXPECT_TRUE(refused([](Options &o) { o.thp = 9; }));
    EXPECT_FALSE(refused([](Options &) {}));
}

}  // namespace
