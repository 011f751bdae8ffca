// States and threads: a state may be used by any thread, by one at a time; and states of different threads
// don't get in each other's way.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

namespace {

using test::State;

constexpr int thread_count = 4;

class Threads : public test::FrontAndArena {
  protected:
    static constexpr const char *work = R"(
        count = (count or 0) + 1
        kept = kept or {}
        for i = 1, 300 do kept[(count * 300 + i) % 2000 + 1] = {count, tostring(i)} end
        for _, entry in pairs(kept) do assert(type(entry[1]) == 'number' and type(entry[2]) == 'string') end)";

    static void on_each(const std::function<void(int)> &body) {
        std::vector<std::thread> threads;
        for (int i = 0; i < thread_count; ++i) threads.emplace_back(body, i);
        for (std::thread &thread : threads) thread.join();
    }
};
ON_EVERY_FRONT_AND_ARENA(Threads);

TEST_P(Threads, AStateMadeByOneIsUsedByAnotherAndClosedByAThird) {
    for (void (*close)(lua_State *) : {static_cast<void (*)(lua_State *)>(lua_close), jemalloc_lua_close}) {
        lua_State *L = nullptr;
        std::thread([&] { L = state().release(); }).join();
        ASSERT_NE(nullptr, L);
        std::thread([&] { EXPECT_EQ("", test::run(L, work)); }).join();
        std::thread([&] { EXPECT_EQ("", test::run(L, work)); }).join();
        std::thread([&] { close(L); }).join();
    }
}

// A queue that hands states from thread to thread.
class Exchange {
  public:
    void put(State state) {
        const std::lock_guard guard(lock_);
        states_.push_back(std::move(state));
        ready_.notify_one();
    }
    State take() {
        std::unique_lock guard(lock_);
        ready_.wait(guard, [this] { return !states_.empty(); });
        State state = std::move(states_.front());
        states_.pop_front();
        return state;
    }

  private:
    std::mutex lock_;
    std::condition_variable ready_;
    std::deque<State> states_;
};

TEST_P(Threads, PassStatesAround) {
    Exchange exchange;
    constexpr int rounds = 150;
    constexpr int states = 2 * thread_count;
    for (int i = 0; i < states; ++i) exchange.put(state());
    on_each([&](int index) {
        std::mt19937 random(static_cast<unsigned>(index));
        for (int i = 0; i < rounds; ++i) {
            State one = exchange.take();
            EXPECT_EQ("", test::run(one.get(), work));
            if (random() % 8 == 0) one = state();  // closed here, whoever made it
            if (random() % 8 == 0) jemalloc_lua_trim(one.get());
            exchange.put(std::move(one));
        }
    });
    for (int i = 0; i < states; ++i) EXPECT_EQ("", test::run(exchange.take().get(), work));
}

TEST(Options, MayBeReadByManyThreadsAtOnce) {
    std::vector<std::thread> threads;
    for (int i = 0; i < thread_count; ++i) {
        threads.emplace_back([] {
            for (int k = 0; k < 200; ++k) {
                test::options("limit:64M,arena:own");
                const State one(jemalloc_lua_newstate());
                EXPECT_NE(nullptr, one);
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
}

}  // namespace
