"""The arithmetic of the tables: minima, medians, spread, ratios, and when a figure is noise."""

import math
from dataclasses import dataclass

# A figure that may be farther off in a second run is not to be believed. 95 % of those at this limit keep to it, and
# then nearly all stay within the 5 % that are promised.
NOISY = 0.04


def quantile(samples, part):
    """The value at `part` (0 to 1) of the sorted samples, interpolated between neighbours."""
    ordered = sorted(samples)
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(samples):
    return quantile(samples, 0.5)


def spread(samples):
    """The distance between the quartiles, in parts of the median."""
    middle = median(samples)
    return (quantile(samples, 0.75) - quantile(samples, 0.25)) / middle if middle > 0 else 0.0


def notch(samples):
    """Half the notch of a box plot, in parts of the median: where the notches of two series don't overlap, their
    medians differ, at a confidence of 95 % (McGill, Tukey, Larsen: Variations of Box Plots, 1978)."""
    return 1.57 * spread(samples) / math.sqrt(len(samples))


def ratio(part, whole):
    """part / whole; 1 for 0 / 0 and infinite for anything else / 0."""
    if whole > 0:
        return part / whole
    return 1.0 if part == 0 else math.inf


def geometric_mean(values):
    values = [value for value in values if value > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


@dataclass
class Comparison:
    """One series of measurements against another, taken in the same rounds."""

    minimum: float  # ratio of the minima
    median: float  # ratio of the medians
    spread: float  # of the series itself
    disagreement: float  # how far the ratios of the first and of the second half of the rounds are apart
    uncertainty: float  # how far the medians of the rounds' ratios of two such series may be apart

    @property
    def noisy(self):
        return max(self.disagreement, self.uncertainty) > NOISY


def takes_part(number, turns, rounds):
    """Whether what takes part in `turns` of the rounds, evenly spread, does so in this one."""
    return number * turns % rounds < turns


def same_rounds(samples, base):
    """What of `base` was taken in the rounds of `samples`, which may be fewer."""
    return [each for number, each in enumerate(base) if takes_part(number, len(samples), len(base))]


def compare(samples, base):
    """How `samples` compare with `base`: sample i of both was taken in round i."""
    base = same_rounds(samples, base)
    middle = (min(len(samples), len(base)) + 1) // 2
    halves = [
        ratio(median(samples[half]), median(base[half]))
        for half in (slice(None, middle), slice(middle, None))
        if samples[half] and base[half]
    ]
    low, high = min(halves), max(halves)
    return Comparison(
        minimum=ratio(min(samples), min(base)),
        median=ratio(median(samples), median(base)),
        spread=spread(samples),
        disagreement=0.0 if high == low else ratio(high - low, low),
        uncertainty=2 * notch([ratio(sample, of) for sample, of in zip(samples, base)]),
    )
