// A sequence of heap operations against the model of tests/alloc/model.h.
//
// An input is a head, a byte for each option, and operations of four bytes. A byte of zero is the option's
// default. As an operation is the same wherever it stands, the mutator below adds whole ones, takes some out
// and repeats others, and the rest of the sequence stays what it was. Much of what can go wrong needs blocks
// of one size side by side, which bytes at random seldom make: so it also adds episodes, as programs have
// them.

#include <jemalloc_lua.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "check/verified.h"
#include "model.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t *data, std::size_t size, std::size_t max_size);

namespace {

constexpr std::size_t K = 1024;
constexpr std::size_t M = K * K;

// Enough for any state of a heap, and not so much that the fuzzer is slowed down.
constexpr std::size_t plenty = 64 * M;

using Head = std::array<std::uint8_t, 16>;

struct Operation {
    std::uint8_t what;
    std::uint8_t which;  // of the blocks
    std::uint16_t how;
};
static_assert(sizeof(Operation) == 4);

// What is missing of the head is zero, and of the last operation nothing.
struct Input {
    Head head{};
    std::vector<Operation> operations;

    Input(const std::uint8_t *data, std::size_t size) {
        const std::size_t ahead = std::min(size, head.size());
        if (ahead > 0) std::memcpy(head.data(), data, ahead);
        operations.resize((size - ahead) / sizeof(Operation));
        if (!operations.empty()) {
            std::memcpy(operations.data(), data + ahead, operations.size() * sizeof(Operation));
        }
    }

    std::size_t write(std::uint8_t *data, std::size_t max_size) const {
        const std::size_t ahead = std::min(max_size, head.size());
        const std::size_t rest = std::min(operations.size(), (max_size - ahead) / sizeof(Operation));
        std::memcpy(data, head.data(), ahead);
        if (rest > 0) std::memcpy(data + ahead, operations.data(), rest * sizeof(Operation));
        return ahead + rest * sizeof(Operation);
    }
};

// ---- What an input means

jemalloc_lua_options some_options(const Head &head) {
    const auto *byte = head.data();
    const auto number = [&](std::size_t end) -> std::size_t { return *byte++ % end; };
    const auto pick = [&](auto first, auto... more) {
        return std::array{first, more...}[number(1 + sizeof...(more))];
    };
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    options.front = pick(JEMALLOC_LUA_FRONT_SLAB, JEMALLOC_LUA_FRONT_SLAB, JEMALLOC_LUA_FRONT_DIRECT,
                         JEMALLOC_LUA_FRONT_CHECKED);
    options.arena = JEMALLOC_LUA_ARENA_AUTO - static_cast<int>(number(4));
    options.tcache = static_cast<int>(number(options.arena == JEMALLOC_LUA_ARENA_THREAD ? 3 : 2));
    options.arena_threshold = pick(4 * M, std::size_t{0}, 64 * K, 256 * K, 2 * M);
    options.retain = pick(100u, 0u, 50u, 10000u);
    options.nursery = 16 * K * pick(4, 1, 2, 8);
    options.slab = 16 * K << pick(1, 0, 2, 4, 6);
    options.small_max = K - 16 * number(32);
    options.huge_min = 64 * K << pick(2, 0, 1, 4);
    options.scrub = pick(0, 1);
    options.harden = options.front == JEMALLOC_LUA_FRONT_SLAB ? pick(0, 1) : 0;
    options.soft_limit = pick(std::size_t{0}, 512 * K, 4 * M);
    return options;
}

// Whether old sizes are wrong. A heap serves them nevertheless, unless it is to report them.
bool lies(const Head &head, const jemalloc_lua_options &options) {
    const bool reports = options.front == JEMALLOC_LUA_FRONT_CHECKED || options.harden != 0;
    return head.back() % 2 == 1 && !reports;
}

// Mostly what Lua asks for; large ones as well, and some that nobody can have.
std::size_t some_size(const Operation &operation) {
    const std::size_t how = operation.how;
    switch (operation.what / 16 % 8) {
        case 0:
        case 1:
            return how % 256 + 1;
        case 2:
        case 3:
        case 4:
            return how % (2 * K) + 1;
        case 5:
            return how + 1;
        case 6:
            return 64 * how + 1;
        default:
            return SIZE_MAX - how;
    }
}

// Half of the time near the block's own size, or as tables and buffers grow and shrink.
std::size_t another_size(const Operation &operation, std::size_t size) {
    switch (operation.what / 16) {
        case 8:
        case 9:
            return size + operation.how % 128;
        case 10:
        case 11:
            return size - std::min<std::size_t>(operation.how % 128, size - 1);
        case 12:
        case 13:
            return 2 * size;
        case 14:
        case 15:
            return (size + 1) / 2;
        default:
            return some_size(operation);
    }
}

void step(test::Model &model, const Operation &operation) {
    const std::size_t blocks = model.blocks();
    // One of the newest, or, by an odd number, one of the oldest.
    const std::size_t near = blocks == 0 ? 0 : operation.which / 2 % blocks;
    const std::size_t block = operation.which % 2 == 0 ? blocks - 1 - near : near;
    switch (operation.what % 16) {
        case 0:
            return model.trim();
        case 1:
            return model.check_account();
        case 2:
            return model.set_limit(operation.which % 2 == 0 ? 0 : 64 * K * (operation.how % 256));
        case 3:  // many alike
            for (int i = operation.which; i > 0; --i) model.obtain(some_size(operation) % (8 * K) + 1, 0);
            return;
        case 4:  // the newest ones go
            for (int i = operation.which; i > 0 && model.blocks() > 0; --i) model.free(model.blocks() - 1);
            return;
        case 5:  // the rest goes
            return model.free_all();
        case 6:
        case 7:
        case 8:
            if (blocks > 0) model.free(block);
            return;
        case 9:
        case 10:
        case 11:
            if (blocks > 0) {
                const std::size_t size = another_size(operation, model.size_of(block));
                if (size <= model.size_of(block) || size > PTRDIFF_MAX || model.live_bytes() < plenty) {
                    model.resize(block, size);
                }
            }
            return;
        default:
            if (model.live_bytes() < plenty) model.obtain(some_size(operation), operation.which % 10);
            return;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const Input input(data, size);
    const jemalloc_lua_options options = some_options(input.head);
    const bool lying = lies(input.head, options);
    jemalloc_lua::let_tools_watch(!lying);
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(&options);
    if (heap == nullptr) std::abort();
    {
        // What the cache of freed blocks and partly full slabs hold is given up before a request is refused,
        // but whole slabs of the nursery's and of each class stay.
        test::Model model(heap, M + options.nursery + 33 * options.slab);
        if (lying) {
            model.lie([random = std::minstd_rand(input.head.back())](std::size_t size) mutable {
                const std::size_t some[] = {0, size, random() / 16 % (2 * size), random() / 16 % (64 * K)};
                return some[random() / 16 % 4];
            });
        }
        for (const Operation &each : input.operations) {
            if (model.problem().empty()) step(model, each);
        }
        model.free_all();
        model.check_account();
        if (!model.problem().empty()) {
            char conf[512];
            jemalloc_lua_options_format(&options, 0, conf, sizeof conf);
            std::fprintf(stderr, "heap: %s: %s\n", conf, model.problem().c_str());
            std::abort();
        }
    }
    jemalloc_lua_heap_destroy(heap);
    return 0;
}

namespace {

std::size_t below(std::minstd_rand &random, std::size_t end) {
    return random() / 16 % end;
}

Operation any_operation(std::minstd_rand &random) {
    return {static_cast<std::uint8_t>(below(random, 256)), static_cast<std::uint8_t>(below(random, 256)),
            static_cast<std::uint16_t>(below(random, 65536))};
}

// Blocks alike, some of which then change their size or go, and some more of the first kind.
std::vector<Operation> an_episode(std::minstd_rand &random) {
    std::vector<Operation> all;
    const std::size_t count = 1 + below(random, 24);
    Operation many = any_operation(random);
    const std::size_t size_kind = below(random, 4) == 0 ? below(random, 8) : 2;  // 2: up to 2 KiB
    many.what = static_cast<std::uint8_t>(size_kind * 16 + 3);
    many.which = static_cast<std::uint8_t>(count);
    all.push_back(many);
    for (std::size_t i = 1 + below(random, 12); i > 0; --i) {
        Operation each = any_operation(random);
        const bool goes = below(random, 4) == 0;
        // A resize is by a little every other time (another_size()), else to any size.
        const std::size_t size_change = below(random, 2) == 0 ? 8 + below(random, 4) : below(random, 16);
        each.what = static_cast<std::uint8_t>(size_change * 16 + (goes ? 6 : 9));
        each.which = static_cast<std::uint8_t>(below(random, count) * 2);
        all.push_back(each);
    }
    if (below(random, 2) == 0) all.push_back(many);
    return all;
}

}  // namespace

// A change of bytes by libFuzzer, or one of whole operations.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t *data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    std::minstd_rand random(seed);
    Input input(data, size);
    // Else what the first inputs had stays for long: every other time the front end, and often the default.
    if (below(random, 4) == 0) {
        const std::size_t at = below(random, 2) == 0 ? 0 : below(random, input.head.size());
        input.head[at] = static_cast<std::uint8_t>(below(random, 2) == 0 ? 0 : below(random, 256));
    }
    auto &all = input.operations;
    const std::size_t from = below(random, all.size() + 1);
    const auto start = all.begin() + static_cast<std::ptrdiff_t>(from);
    const std::size_t count = std::min(1 + below(random, 16), all.size() - from);
    switch (below(random, 7)) {
        case 0: {  // new ones
            std::vector<Operation> added(1 + below(random, 16));
            for (Operation &each : added) each = any_operation(random);
            all.insert(start, added.begin(), added.end());
            break;
        }
        case 1: {  // some once more
            const std::vector<Operation> again(start, start + static_cast<std::ptrdiff_t>(count));
            all.insert(all.begin() + static_cast<std::ptrdiff_t>(below(random, all.size() + 1)),
                       again.begin(), again.end());
            break;
        }
        case 2:
            all.erase(start, start + static_cast<std::ptrdiff_t>(count));
            break;
        case 3:
        case 4:
        case 5: {
            const std::vector<Operation> added = an_episode(random);
            all.insert(start, added.begin(), added.end());
            break;
        }
        default:
            return LLVMFuzzerMutate(data, size, max_size);
    }
    return input.write(data, max_size);
}
