// The Google Benchmark suites. Each registers one benchmark per case and allocator, "suite/case/allocator",
// so that --benchmark_filter picks either.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "allocators.h"

namespace jemalloc_lua::bench {

using Allocators = std::vector<std::unique_ptr<Allocator>>;

void register_op(const Allocators &allocators);
void register_trace(const Allocators &allocators);
void register_lua(const Allocators &allocators);
void register_state(const Allocators &allocators);
void register_memory(const Allocators &allocators);
void register_threads(const Allocators &allocators);
void register_binding();

}  // namespace jemalloc_lua::bench
