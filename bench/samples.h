// Minimum, median, spread and noise of repeated measurements.
#pragma once

#include <vector>

namespace jemalloc_lua::bench {

double minimum(const std::vector<double> &samples);
double median(std::vector<double> samples);

// The distance between the quartiles, in parts of the median.
double spread(std::vector<double> samples);

// How much the medians of the even and the odd rounds differ, in parts of the smaller one: two interleaved
// halves of one run that should be the same.
double disagreement(const std::vector<double> &samples);

constexpr double noisy = 0.05;  // above this disagreement, digits are not to be believed

}  // namespace jemalloc_lua::bench
