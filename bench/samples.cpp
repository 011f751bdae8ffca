#include "samples.h"

#include <algorithm>
#include <cmath>

namespace jemalloc_lua::bench {
namespace {

// Linear interpolation between the neighbours of the place `part` (0 to 1) of sorted samples.
double quantile(const std::vector<double> &sorted, double part) {
    const double place = part * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], place - std::floor(place));
}

}  // namespace

double minimum(const std::vector<double> &samples) {
    return samples.empty() ? 0 : *std::min_element(samples.begin(), samples.end());
}

double median(std::vector<double> samples) {
    if (samples.empty()) return 0;
    std::sort(samples.begin(), samples.end());
    return quantile(samples, 0.5);
}

double spread(std::vector<double> samples) {
    if (samples.empty()) return 0;
    std::sort(samples.begin(), samples.end());
    const double middle = quantile(samples, 0.5);
    return middle > 0 ? (quantile(samples, 0.75) - quantile(samples, 0.25)) / middle : 0;
}

double disagreement(const std::vector<double> &samples) {
    std::vector<double> halves[2];
    for (std::size_t i = 0; i < samples.size(); ++i) halves[i % 2].push_back(samples[i]);
    const double even = median(halves[0]);
    const double odd = median(halves[1]);
    if (halves[1].empty() || std::min(even, odd) <= 0) return 0;
    return std::abs(even - odd) / std::min(even, odd);
}

}  // namespace jemalloc_lua::bench
