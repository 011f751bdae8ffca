// A sequence of heap operations against the model of tests/alloc/model.h: the first bytes choose the options,
// each later operation is a few bytes.

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdio>
#include <cstdlib>

#include "model.h"

namespace {

constexpr std::size_t K = 1024;
constexpr std::size_t M = K * K;

jemalloc_lua_options some_options(FuzzedDataProvider &in) {
    jemalloc_lua_options options;
    jemalloc_lua_options_init(&options);
    options.front = in.ConsumeIntegralInRange(0, 2);
    options.arena = in.ConsumeIntegralInRange(-4, -1);
    options.tcache = in.ConsumeIntegralInRange(0, options.arena == JEMALLOC_LUA_ARENA_THREAD ? 2 : 1);
    options.arena_threshold = std::size_t{64} * K * in.ConsumeIntegralInRange<std::size_t>(0, 32);
    options.retain = in.PickValueInArray({100u, 0u, 50u, 10000u});
    options.nursery = 16 * K * in.ConsumeIntegralInRange<std::size_t>(1, 8);
    options.slab = std::size_t{16} * K << in.ConsumeIntegralInRange(0, 6);
    options.small_max = 16 * in.ConsumeIntegralInRange<std::size_t>(4, 64);
    options.huge_min = 64 * K << in.ConsumeIntegralInRange(0, 4);
    options.scrub = in.ConsumeBool();
    options.harden = in.ConsumeBool();
    options.soft_limit = in.PickValueInArray({std::size_t{0}, 512 * K, 4 * M});
    return options;
}

// Mostly what Lua asks for; large ones as well, and some that nobody can have.
std::size_t some_size(FuzzedDataProvider &in) {
    switch (in.ConsumeIntegralInRange(0, 7)) {
        case 0:
        case 1:
        case 2:
            return in.ConsumeIntegralInRange<std::size_t>(1, 256);
        case 3:
        case 4:
            return in.ConsumeIntegralInRange<std::size_t>(1, 2 * K);
        case 5:
            return in.ConsumeIntegralInRange<std::size_t>(1, 64 * K);
        case 6:
            return in.ConsumeIntegralInRange<std::size_t>(1, 4 * M);
        default:
            return SIZE_MAX - in.ConsumeIntegral<std::uint16_t>();
    }
}

void step(test::Model &model, FuzzedDataProvider &in) {
    const auto some_block = [&] { return in.ConsumeIntegralInRange<std::size_t>(0, model.blocks() - 1); };
    switch (in.ConsumeIntegralInRange(0, 15)) {
        case 0:
            return model.trim();
        case 1:
            return model.check_account();
        case 2:
            return model.set_limit(in.ConsumeBool() ? 0 : 64 * K * in.ConsumeIntegral<std::uint8_t>());
        case 3: {  // many alike
            const std::size_t size = some_size(in) % (8 * K) + 1;
            for (int i = in.ConsumeIntegral<std::uint8_t>(); i > 0; --i) model.obtain(size, 0);
            return;
        }
        case 4:  // the newest ones go
            for (int i = in.ConsumeIntegral<std::uint8_t>(); i > 0 && model.blocks() > 0; --i) {
                model.free(model.blocks() - 1);
            }
            return;
        case 5:  // the rest goes
            return model.free_all();
        case 6:
        case 7:
        case 8:
            if (model.blocks() > 0) model.free(some_block());
            return;
        case 9:
        case 10:
        case 11:
            if (model.blocks() > 0) model.resize(some_block(), some_size(in));
            return;
        default:
            // Enough for any state of a heap, and not so much that the fuzzer is slowed down.
            if (model.live_bytes() < 64 * M) model.obtain(some_size(in), in.ConsumeIntegralInRange(0, 9));
            return;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    FuzzedDataProvider in(data, size);
    const jemalloc_lua_options options = some_options(in);
    jemalloc_lua_heap *heap = jemalloc_lua_heap_create(&options);
    if (heap == nullptr) std::abort();
    {
        // What the cache of freed blocks and partly full slabs hold is given up before a request is refused,
        // but whole slabs of the nursery's and of each class stay.
        test::Model model(heap, M + options.nursery + 33 * options.slab);
        while (in.remaining_bytes() > 0 && model.problem().empty()) step(model, in);
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
