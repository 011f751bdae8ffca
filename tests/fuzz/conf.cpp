// The reader of "key:value,key:value": whatever the text, it reads within its bounds and writes within the
// caller's; what it accepts it prints again as what it means; what it refuses leaves the options as they
// were.

#include <fuzzer/FuzzedDataProvider.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "config/options.h"
#include "must.h"

namespace {

using jemalloc_lua::Options;

// For showing that the target finds a fault: a byte that is written past the caller's buffer.
#ifdef JEMALLOC_LUA_SEEDED_FAULT
constexpr std::size_t beyond = 1;
#else
constexpr std::size_t beyond = 0;
#endif

void parse(const std::string &conf, FuzzedDataProvider &in) {
    // The caller's memory ends where it says: AddressSanitizer sees a byte beyond. Its struct may be of an
    // older or a newer version, or nonsense.
    const std::size_t size =
        in.ConsumeBool() ? sizeof(Options) : in.ConsumeIntegralInRange<std::size_t>(8, 256);
    const std::unique_ptr<char[]> memory(new char[size]());
    Options full;
    jemalloc_lua_options_init(&full);
    full.size = size;
    std::memcpy(memory.get(), &full, std::min(size, sizeof full));
    const std::string before(memory.get(), size);
    const std::size_t errlen = in.ConsumeIntegralInRange<std::size_t>(0, 600);
    const std::unique_ptr<char[]> err(new char[errlen]);

    auto *options = reinterpret_cast<Options *>(memory.get());
    const int status = jemalloc_lua_options_parse(options, conf.c_str(), err.get(), errlen);
    must(status == 0 || status == EINVAL);
    must(options->size == size);
    if (status != 0) {
        must(before == std::string(memory.get(), size));
        must(errlen == 0 || std::memchr(err.get(), 0, errlen) != nullptr);
        must(errlen < 2 || err[0] != '\0');
        return;
    }
    for (const int all : {0, 1}) {
        const std::size_t len = in.ConsumeIntegralInRange<std::size_t>(0, 400);
        const std::unique_ptr<char[]> shown(new char[len]);
        const auto whole =
            static_cast<std::size_t>(jemalloc_lua_options_format(options, all, shown.get(), len + beyond));
        must(len == 0 || std::strlen(shown.get()) == std::min(whole, len - 1));
        if (len <= whole) continue;
        Options again;
        jemalloc_lua_options_init(&again);
        must(jemalloc_lua_options_parse(&again, shown.get(), nullptr, 0) == 0);
        again.size = size;
        must(std::memcmp(&again, options, std::min(size, sizeof again)) == 0);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    FuzzedDataProvider in(data, size);
    const std::string conf = in.ConsumeRandomLengthString();
    parse(conf, in);

    static std::size_t reported;
    reported = 0;
    const auto report = [](const char *problem) {
        must(problem[0] != '\0' && std::strlen(problem) < 512);
        ++reported;
    };
    const jemalloc_lua::Environment found = jemalloc_lua::read_environment(conf.c_str(), report);
    Options adopted;
    must(jemalloc_lua::adopt_options(&found.options, &adopted, nullptr, 0) == 0);
    Options parsed;
    jemalloc_lua_options_init(&parsed);
    // What the strict reader takes, the lenient one takes as well, and as the same.
    if (jemalloc_lua_options_parse(&parsed, conf.c_str(), nullptr, 0) == 0) {
        must(reported == 0 && std::memcmp(&parsed, &found.options, sizeof parsed) == 0);
    }
    return 0;
}
