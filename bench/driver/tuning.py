"""The search of tools/tune.

One option after the other, in the order of what they matter: the values of one option are tried on top of the
best so far, together with that best, interleaved. After a few rounds, a value that is behind by more than the
noise is dropped; the others go on to the full number of rounds. A new best must win by more than the noise.
At the end the best takes part in a final of its own against the default, the built-in and the system's.
"""

from . import runs, stats, table

DEFAULT = "default"
FIRST = 3  # rounds before the first candidates are dropped

# Option -> values that differ from the default. Those of `slab` fronts mean nothing to `direct`, and the other
# way round.
SPACE = {
    "front": ["direct"],
    "arena": ["own", "shared", "thread"],
    "tcache": ["none"],
    "slab": ["16K", "64K", "128K"],
    "small_max": ["528", "768"],
    "nursery": ["64K", "256K"],
    "retain": ["25", "50", "200", "400"],
    "dirty_decay_ms": ["0", "1000", "-1"],
    "thp": ["always"],
}
ONLY = {"tcache": "direct", "slab": "slab", "small_max": "slab", "nursery": "slab", "retain": "slab"}

HEADER = ["options", "time", "spread", "cpu", "peak", "end", "faults"]


def expected_runs(rounds):
    """About how many runs a search takes: most values are dropped after the first rounds."""
    values = sum(map(len, SPACE.values()))
    return values * (FIRST + 1) + len(SPACE) * rounds + 4 * rounds


def conf(options):
    return ",".join(f"{key}:{value}" for key, value in options.items()) or DEFAULT


def score(run, goal):
    """What one run cost: smaller is better. Sums of logarithms would not change the order of the medians."""
    memory = (run["peak_resident"] + run["resident_at_end"]) / 2
    if goal == "time":
        return run["wall_s"]
    return memory if goal == "memory" else run["wall_s"] * memory


class Search:
    """Runs candidates with `measure(name)`, which returns what lua_run prints."""

    def __init__(self, measure, goal, rounds, progress=None):
        self.measure, self.goal, self.rounds, self.progress = measure, goal, rounds, progress
        self.best = {}
        self.lost = set()
        self.final = {}
        self.answer = None

    def checked(self, name):
        run = self.measure(name)
        if self.answer is None:
            self.answer = run["result"]
        if run["result"] != self.answer:
            raise runs.Failure(
                f"the program does not print the same each time ({run['result'][:60]!r}): make what it prints the same, "
                "to see that all runs do the same work, or give --any-output"
            )
        return run

    def scores(self, series):
        return [score(run, self.goal) for run in series]

    def beats(self, challenger, holder):
        """Whether the median is better by more than both series scatter."""
        against = stats.compare(challenger, holder)
        noise = max(stats.spread(challenger), stats.spread(holder), 0.01) / 2
        return against.median < 1 - noise and against.minimum < 1

    def trial(self, options):
        """The best of several sets of options; the first is the holder, and keeps its place in doubt."""
        names = [conf(each) for each in options]
        samples = runs.interleave(names, FIRST, self.checked, self.progress)
        holder = names[0]
        for name in names[1:]:
            against = stats.compare(self.scores(samples[name]), self.scores(samples[holder]))
            if against.minimum > 1.03 and against.median > 1.03:
                self.lost.add(name)
        staying = [name for name in names if name not in self.lost]
        if len(staying) > 1:
            more = runs.interleave(staying, self.rounds - FIRST, self.checked, self.progress)
            for name in staying:
                samples[name] += more[name]
        winner = 0
        for i, name in enumerate(names):
            if name in staying and self.beats(self.scores(samples[name]), self.scores(samples[names[winner]])):
                winner = i
        return options[winner]

    def applies(self, key):
        return ONLY.get(key, self.best.get("front", "slab")) == self.best.get("front", "slab")

    def run(self):
        for key, values in SPACE.items():
            if self.applies(key):
                self.best = self.trial([self.best, *({**self.best, key: value} for value in values)])
        names = dict.fromkeys(["builtin", "glibc", DEFAULT, conf(self.best)])
        self.final = runs.interleave(list(names), self.rounds, self.checked, self.progress)

    def dropped(self):
        return len(self.lost)

    def rows(self):
        base = self.final["builtin"]
        rows = []
        for name, series in self.final.items():
            def to_builtin(key, series=series):
                return stats.ratio(stats.median([run[key] for run in series]), stats.median([run[key] for run in base]))

            wall = stats.compare([run["wall_s"] for run in series], [run["wall_s"] for run in base])
            cpu, base_cpu = (
                stats.median([run["user_s"] + run["system_s"] for run in runs_of]) for runs_of in (series, base)
            )
            rows.append([
                name, table.figure(wall.median), table.percent(wall.spread),
                f"{stats.ratio(cpu, base_cpu):.2f}", f"{to_builtin('peak_resident'):.2f}",
                f"{to_builtin('resident_at_end'):.2f}", f"{stats.median([run['faults'] for run in series]):.0f}",
            ])
        return rows

    def verdict(self):
        """The last lines: what to do."""
        name = conf(self.best)
        if name != DEFAULT and self.beats(self.scores(self.final[name]), self.scores(self.final[DEFAULT])):
            return f"\nJEMALLOC_LUA_CONF={name}"
        return "\nNothing beats the defaults by more than the noise:\nJEMALLOC_LUA_CONF=front:slab"
