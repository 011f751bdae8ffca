"""The pictures of a report. Each allocator has one colour (Okabe and Ito's, which colour-blind readers tell apart)
and one marker in all of them."""

import matplotlib.pyplot as plt

from . import stats

STYLES = {
    "builtin": ("#000000", "|"),
    "default": ("#D55E00", "o"),
    "front:slab": ("#D55E00", "o"),
    "mimalloc": ("#0072B2", "s"),
    "glibc": ("#009E73", "^"),
    "jemalloc": ("#E69F00", "D"),
    "front:direct": ("#CC79A7", "v"),
    "tcmalloc": ("#56B4E9", "P"),
    "floor": ("#999999", "x"),
}
SPARE = [("#7A5195", "*"), ("#8C564B", "h"), ("#666666", "X"), ("#B8860B", "<"), ("#2F4F4F", ">")]
LABELS = {
    "builtin": "LuaJIT's built-in",
    "default": "this library (slab)",
    "front:slab": "this library (slab)",
    "front:direct": "this library (direct)",
    "jemalloc": "jemalloc, flags 0",
}

plt.rcParams.update({
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "savefig.bbox": "tight",
})


def style(allocator, others):
    if allocator in STYLES:
        return STYLES[allocator]
    unknown = [name for name in others if name not in STYLES]
    return SPARE[unknown.index(allocator) % len(SPARE)]


def label(allocator):
    return LABELS.get(allocator, allocator)


def allocators_of(cases):
    """In the order of the legend."""
    names = list(dict.fromkeys(name for allocators in cases.values() for name in allocators))
    order = list(STYLES)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def ratio_points(cases, base="builtin", less=None):
    """{allocator: [(case, ratio of medians, lower and upper quartile of the ratio)]}."""
    points = {}
    for case, allocators in cases.items():
        if base not in allocators:
            continue
        floor = min(allocators[less]["time"]) if less in allocators else 0.0
        whole = stats.median(allocators[base]["time"]) - floor
        for name, figures in allocators.items():
            if name in (base, less) or whole <= 0:
                continue
            values = [max(stats.quantile(figures["time"], part) - floor, 0) / whole for part in (0.5, 0.25, 0.75)]
            points.setdefault(name, []).append((case, *values))
    return points


def ratios(cases, title, axis, less=None):
    """A row per case, a marker per allocator, quartiles as error bars; LuaJIT's built-in is the line at 1."""
    points = ratio_points(cases, less=less)
    names = [name for name in allocators_of(cases) if name in points]
    rows = list(dict.fromkeys(case for series in points.values() for case, *_ in series))
    if not rows:
        return None
    height = 1.6 + max(0.34, 0.075 * len(names) + 0.12) * len(rows)
    figure, axes = plt.subplots(figsize=(8.4, height))
    for k, name in enumerate(names):
        colour, marker = style(name, names)
        shift = (k - (len(names) - 1) / 2) * 0.7 / max(len(names), 1)
        series = points[name]
        x = [middle for _, middle, _, _ in series]
        y = [rows.index(case) + shift for case, *_ in series]
        bars = [
            [middle - low for _, middle, low, _ in series],
            [high - middle for _, middle, _, high in series],
        ]
        axes.errorbar(x, y, xerr=bars, fmt=marker, color=colour, markersize=5, elinewidth=1, label=label(name))
    axes.axvline(1, color="black", linewidth=1.2, label=label("builtin"))
    for row in range(1, len(rows), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", zorder=0)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    highest = max(high for series in points.values() for *_, high in series)
    if highest > 3:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(plt.NullFormatter())
    else:
        axes.set_xlim(0, highest * 1.05)
    axes.set_xlabel(axis)
    axes.set_title(title, loc="left", fontweight="bold", pad=34 if len(names) < 4 else 50)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=9)
    return figure


def bars(cases, wanted, name, scale, title, axis):
    """Bars of one series, a panel per case."""
    wanted = [case for case in wanted if any(name in figures for figures in cases.get(case, {}).values())]
    if not wanted:
        return None
    names = [each for each in allocators_of({case: cases[case] for case in wanted}) if each != "floor"]
    figure, panels = plt.subplots(1, len(wanted), figsize=(4.2 * len(wanted) + 1, 0.4 * len(names) + 1.4),
                                  squeeze=False, sharey=True)
    for axes, case in zip(panels[0], wanted):
        values = [stats.median(cases[case].get(each, {}).get(name, [0])) * scale for each in names]
        drawn = axes.barh(range(len(names)), values, color=[style(each, names)[0] for each in names], height=0.65)
        axes.bar_label(drawn, [f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in values], padding=3)
        axes.set_yticks(range(len(names)), [label(each) for each in names])
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.set_xlabel(axis)
        axes.set_title(case.replace("_", " "), fontsize=10)
    panels[0][0].invert_yaxis()
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.tight_layout()
    return figure


def timeline(allocators, title):
    """Resident memory over time."""
    figure, axes = plt.subplots(figsize=(8.4, 4))
    names = allocators_of({"": allocators})
    for name in names:
        colour, marker = style(name, names)
        at, resident = allocators[name]["at"], [value / 1e6 for value in allocators[name]["resident"]]
        every = max(len(at) // 8, 1)
        axes.plot(at, resident, color=colour, marker=marker, markevery=every, markersize=5, linewidth=1.5,
                  label=label(name))
    axes.set_xlabel("time, seconds")
    axes.set_ylabel("resident memory, MB")
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontweight="bold", pad=50 if len(names) > 4 else 34)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=9)
    return figure


def scaling(state):
    """Resident memory of one idle state by how many are alive."""
    lines = {}
    for case, allocators in state.items():
        kind, _, count = case.partition("/")
        if kind != "alive":
            continue
        for name, figures in allocators.items():
            lines.setdefault(name, []).append((int(count), stats.median(figures["resident_per_state"]) / 1e3))
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(8.4, 4))
    names = allocators_of({"": lines})
    for name in names:
        colour, marker = style(name, names)
        counts, values = zip(*sorted(lines[name]))
        axes.plot(counts, values, color=colour, marker=marker, markersize=6, linewidth=1.5, label=label(name))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("states alive")
    axes.set_ylabel("resident memory of one state, KB")
    axes.set_title("Idle states, libraries open", loc="left", fontweight="bold", pad=50 if len(names) > 4 else 34)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=9)
    return figure


def draw_all(found, folder):
    """Draws what there are figures for; (name, title) of each picture, in the order of the page."""
    to_builtin = "time, ratio to LuaJIT's built-in allocator (lower is better)"
    memory, state = found.get("memory", {}), found.get("state", {})
    times = {case: value for case, value in {**state, **memory}.items() if not case.startswith("alive/")}
    timelines = found.get("timeline", {})
    drawn = {
        "lua": ("Whole Lua programs", lambda title: ratios(found["lua"], title, to_builtin)),
        "trace": ("Recorded programs, replayed in a warm heap, net of the floor",
                  lambda title: ratios(found["trace"], title, to_builtin, less="floor")),
        "op": ("Single requests", lambda title: ratios(found["op"], title, to_builtin)),
        "times": ("States and big blocks", lambda title: ratios(times, title, to_builtin)),
        "timeline": ("A peak, then little: resident memory",
                     lambda title: timeline(timelines["peak_idle"], title)),
        "peak": ("Resident memory above the process's start",
                 lambda title: bars(memory, ["peak"], "resident_after", 1e-6, title,
                                    "MB after a peak of 250 MB was collected")),
        "churn": ("Resident memory for each live byte, after long churn",
                  lambda title: bars(memory, ["churn"], "resident_per_live", 1, title, "bytes per live byte")),
        "states": ("Idle states, libraries open", lambda title: scaling(state)),
    }
    pictures = []
    for name, (title, draw) in drawn.items():
        group = {"times": times, "peak": memory, "churn": memory, "states": state}.get(name, found.get(name))
        figure = draw(title) if group else None
        if figure is None:
            continue
        for kind in ("png", "svg"):
            figure.savefig(folder / f"{name}.{kind}", dpi=150)
        plt.close(figure)
        pictures.append((folder / f"{name}.png", title))
    return pictures


