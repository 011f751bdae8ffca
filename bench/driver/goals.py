"""What the project set out to reach, and what was reached: computed from results alone."""

import math

from . import stats, table

ALLOCATING = 0.20  # programs that spend more of their time allocating count for the mean
OURS = "default"


def series(found, group, case, allocator, name="time"):
    return found.get(group, {}).get(case, {}).get(allocator, {}).get(name, [])


def ratio_of(found, group, case, base, name="time", ours=OURS):
    """Ratio of the medians, or None where either was not measured."""
    mine, theirs = (series(found, group, case, each, name) for each in (ours, base))
    return stats.ratio(stats.median(mine), stats.median(theirs)) if mine and theirs else None


def ratios(found, group, base, name="time", ours=OURS):
    pairs = {case: ratio_of(found, group, case, base, name, ours) for case in found.get(group, {})}
    return {case: value for case, value in pairs.items() if value is not None}


def net(found, case, allocator):
    """Seconds per request of a replay less the floor's."""
    own, floor = series(found, "trace", case, allocator), series(found, "trace", case, "floor")
    return max(min(own) - min(floor), 0.0) if own and floor else None


def net_ratios(found, base, ours=OURS):
    values = {}
    for case in found.get("trace", {}):
        mine, theirs = net(found, case, ours), net(found, case, base)
        if mine is not None and theirs:
            values[case] = mine / theirs
    return values


class Goal:
    """A bound on a figure; `figure` is None where it was not measured, `note` says what the figure is of."""

    def __init__(self, what, bound, figure, note="", unit="", at_least=False):
        self.what, self.bound, self.figure = what, bound, figure
        self.note, self.unit, self.at_least = note, unit, at_least

    @property
    def verdict(self):
        if self.figure is None:
            return "not measured"
        figure = round(self.figure, 3)
        reached = figure >= self.bound if self.at_least else figure <= self.bound
        return "reached" if reached else "MISSED"

    def row(self):
        sign = ">=" if self.at_least else "<="
        figure = "-" if self.figure is None or math.isnan(self.figure) else f"{self.figure:.2f}{self.unit}"
        return [self.what, f"{sign} {self.bound:.2f}{self.unit}", figure, self.verdict, self.note]


def worst(what, bound, values):
    """A goal that holds for each case: the figure is that of the worst."""
    if not values:
        return Goal(what, bound, None)
    case = max(values, key=values.get)
    over = sum(value > bound for value in values.values())
    return Goal(what, bound, values[case], f"worst: {case}; {over} of {len(values)} over")


def mean(what, bound, values):
    figure = stats.geometric_mean(values.values()) if values else None
    return Goal(what, bound, figure, f"{len(values)} programs")


def allocating(found):
    """Programs that spend a good part of their time allocating."""
    shares = {case: series(found, "trace", case, "builtin", "share") for case in found.get("trace", {})}
    return {case for case, share in shares.items() if share and share[0] > ALLOCATING}


def scaling(found, ours=OURS):
    """How much more two threads do than one."""
    values = []
    for case in found.get("threads", {}):
        program, _, threads = case.rpartition("/")
        one, two = (series(found, "threads", f"{program}/{n}", ours) for n in (1, 2))
        if threads == "2" and one and two:
            values.append(2 * stats.median(one) / stats.median(two))
    return stats.geometric_mean(values) if values else None


def single(found, group, case, name):
    values = series(found, group, case, OURS, name)
    return stats.median(values) if values else None


def crowd(found):
    """Resident memory of a state among 100,000 to that of one among 1,000."""
    many = single(found, "state", "alive/100000", "resident_per_state")
    few = single(found, "state", "alive/1000", "resident_per_state")
    return many / few if many and few else None


def threads_goal(found):
    """Beside what the built-in allocator reaches, which has nothing for threads to share: the rest is the machine's."""
    builtin = scaling(found, "builtin")
    note = f"the built-in allocator: {builtin:.2f}" if builtin else ""
    return Goal("two threads: to one", 1.90, scaling(found), note, at_least=True)


def evaluate(found):
    """All goals, in the order in which they are printed."""
    to_builtin = ratios(found, "lua", "builtin")
    busy = {case: value for case, value in to_builtin.items() if case in allocating(found)}
    growth = {
        case: value for case, value in ratios(found, "memory", "builtin").items() if case.startswith("grow_")
    }
    after_peak = single(found, "memory", "peak", "resident_after")
    return [
        worst("programs: time to built-in, each", 1.00, to_builtin),
        mean("programs that allocate over 20 % of their time: mean", 0.85, busy),
        mean("programs: time to mimalloc, mean", 0.97, ratios(found, "lua", "mimalloc")),
        worst("traces, net of floor: to mimalloc, each", 0.90, net_ratios(found, "mimalloc")),
        worst("traces, net of floor: to built-in, each", 0.35, net_ratios(found, "builtin")),
        Goal("idle state, resident: to built-in", 0.85,
             ratio_of(found, "state", "alive/1000", "builtin", "resident_per_state")),
        Goal("create + openlibs + close: to built-in", 0.75,
             ratio_of(found, "state", "create_openlibs_close", "builtin")),
        Goal("close with a million objects: to built-in", 0.50,
             ratio_of(found, "state", "close_million", "builtin")),
        worst("programs: peak resident to built-in, each", 1.05, ratios(found, "lua", "builtin", "peak")),
        Goal("resident after a peak of 250 MB", 8.0, after_peak and after_peak / 1e6, unit=" MB"),
        Goal("page faults of a saw-tooth: to built-in", 1.0,
             ratio_of(found, "memory", "saw_tooth", "builtin", "faults")),
        worst("one block growing to 400 MB: to built-in", 1.05, growth),
        Goal("100,000 states alive: resident to one of 1,000", 1.05, crowd(found)),
        threads_goal(found),
    ]


def render(found):
    return table.render(["goal", "bound", "figure", "verdict"], [goal.row() for goal in evaluate(found)])
