// States whose every request is recorded, from the first block on; also those that a program makes itself.
#pragma once

#include "allocators.h"
#include "recorder.h"

namespace jemalloc_lua::bench {

class RecordedAllocator final : public Allocator {
  public:
    explicit RecordedAllocator(Recorder &recorder) : recorder_(recorder) {}

    std::unique_ptr<Heap> make_heap() const override { return nullptr; }  // only states are recorded
    std::unique_ptr<State> make_state() const override {
        auto state = std::make_unique<Recorded>();
        state->L = lua_newstate(Recorder::alloc, &recorder_);
        return state->L == nullptr ? nullptr : std::move(state);
    }

  private:
    struct Recorded final : State {
        ~Recorded() override {
            if (L != nullptr) lua_close(L);
        }
    };

    Recorder &recorder_;
};

}  // namespace jemalloc_lua::bench
