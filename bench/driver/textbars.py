"""A picture in plain text, for a README: whole programs, a bar each, LuaJIT's built-in allocator at the line."""

from . import stats
from .goals import ratio_of
from .runs import Failure

WIDTH = 20  # columns of a ratio of 1
EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(ratio):
    """A bar of `ratio` of the width, to an eighth of a column, with the line where 1 is."""
    eighths = round(ratio * WIDTH * 8)
    drawn = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return drawn.ljust(WIDTH) + "│" if len(drawn) <= WIDTH else drawn[:WIDTH] + "╂" + drawn[WIDTH + 1:]


def programs(found, beside="mimalloc"):
    """Ratios of the medians of every whole program in two columns, and those of another allocator as numbers beside."""
    cases = {case: ratio_of(found, "lua", case, "builtin") for case in found.get("lua", {})}
    cases = {case: ratio for case, ratio in cases.items() if ratio is not None}
    if not cases:
        raise Failure("no whole programs (group lua) in these results")
    others = {case: ratio_of(found, "lua", case, "builtin", ours=beside) for case in cases}
    mean = "geometric mean"
    width = max(map(len, [*cases, mean]))

    def row(name, drawn, ratio, other):
        other = "" if other is None else f"{other:.2f}"
        return f"{name:{width}} {drawn:{WIDTH + 3}} {ratio:.2f}  {other:>{len(beside)}}"

    rows = [row(case, bar(cases[case]), cases[case], others[case]) for case in sorted(cases, key=cases.get)]
    half = (len(rows) + 1) // 2
    title = f"{{:{width + WIDTH + 4}}} this  {beside}"
    columns = [title.format("time, to built-in"), *rows[:half]], [title.format(""), *rows[half:], ""]
    means = None if None in others.values() else stats.geometric_mean(list(others.values()))
    return "\n".join([*("   ".join(pair).rstrip() for pair in zip(*columns)),
                      row(mean, "", stats.geometric_mean(list(cases.values())), means).rstrip()])
