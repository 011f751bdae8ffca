"""A picture in plain text, for a README: whole programs, a bar each, LuaJIT's built-in allocator at the line."""

from . import stats
from .goals import ratio_of
from .runs import Failure

WIDTH = 40  # columns of a ratio of 1
EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(ratio):
    """A bar of `ratio` of the width, to an eighth of a column, with the line where 1 is."""
    eighths = round(ratio * WIDTH * 8)
    drawn = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return drawn.ljust(WIDTH) + "│" if len(drawn) <= WIDTH else drawn[:WIDTH] + "╂" + drawn[WIDTH + 1:]


def programs(found, beside="mimalloc"):
    """Ratios of the medians of every whole program, and those of another allocator as numbers beside."""
    cases = {case: ratio_of(found, "lua", case, "builtin") for case in found.get("lua", {})}
    cases = {case: ratio for case, ratio in cases.items() if ratio is not None}
    if not cases:
        raise Failure("no whole programs (group lua) in these results")
    others = {case: ratio_of(found, "lua", case, "builtin", ours=beside) for case in cases}
    title, mean = "time, to built-in", "geometric mean"
    width = max(map(len, [*cases, title, mean]))
    lines = [f"{title:{width}}  {'':{WIDTH}}     this  {beside}"]
    for case in sorted(cases, key=cases.get):
        other = "" if others[case] is None else f"{others[case]:{len(beside)}.2f}"
        lines.append(f"{case:{width}}  {bar(cases[case]):{WIDTH + 5}}{cases[case]:.2f}  {other}".rstrip())
    means = [f"{stats.geometric_mean(list(cases.values())):.2f}"]
    if None not in others.values():
        means.append(f"{stats.geometric_mean(list(others.values())):{len(beside)}.2f}")
    lines.append(f"{mean:{width}}  {'':{WIDTH + 5}}{'  '.join(means)}")
    return "\n".join(lines)
