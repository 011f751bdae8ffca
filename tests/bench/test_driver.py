"""The arithmetic of the tables, and what the tools say to wrong arguments."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]
sys.dont_write_bytecode = True

from driver import runs, stats, table, textbars, tuning  # noqa: E402
from outcome import main  # noqa: E402


class Statistics(unittest.TestCase):
    def test_quantiles_interpolate(self):
        self.assertEqual(stats.median([3, 1, 2]), 2)
        self.assertEqual(stats.median([4, 1, 2, 3]), 2.5)
        self.assertEqual(stats.quantile([0, 10], 0.25), 2.5)
        self.assertEqual(stats.median([7]), 7)

    def test_spread_is_the_quartiles_distance_in_parts_of_the_median(self):
        self.assertAlmostEqual(stats.spread([1, 2, 3, 4, 5]), 2 / 3)
        self.assertEqual(stats.spread([5, 5, 5]), 0)

    def test_comparison_gives_ratios_of_minima_and_of_medians(self):
        against = stats.compare([2, 4, 6], [4, 8, 12])
        self.assertEqual((against.minimum, against.median), (0.5, 0.5))
        self.assertFalse(against.noisy)

    def test_halves_that_disagree_make_a_row_noisy(self):
        self.assertTrue(stats.compare([1] * 50 + [1.06] * 50, [1] * 100).noisy)
        self.assertTrue(stats.compare([1] * 51 + [1.06] * 50, [1] * 101).noisy)
        self.assertFalse(stats.compare([1] * 50 + [1.03] * 50, [1] * 100).noisy)
        self.assertFalse(stats.compare([1, 1, 2, 2], [2, 2, 4, 4]).noisy)  # the machine, not the ratio

    def test_few_rounds_that_are_far_apart_make_a_row_noisy(self):
        self.assertAlmostEqual(stats.notch([1, 2, 3, 4, 5]), 1.57 * 2 / 3 / 5**0.5)
        self.assertTrue(stats.compare([0.95, 1, 1.05] * 2, [1] * 6).noisy)
        self.assertFalse(stats.compare([0.95, 1, 1.05] * 40, [1] * 120).noisy)

    def test_one_round_is_never_called_noisy(self):
        self.assertFalse(stats.compare([3], [2]).noisy)

    def test_ratio_to_nothing(self):
        self.assertEqual(stats.ratio(0, 0), 1)
        self.assertEqual(stats.ratio(1, 0), float("inf"))

    def test_geometric_mean(self):
        self.assertAlmostEqual(stats.geometric_mean([0.5, 2]), 1)
        self.assertNotEqual(stats.geometric_mean([]), stats.geometric_mean([]))  # not a number


class Tables(unittest.TestCase):
    def test_columns_line_up(self):
        text = table.render(["name", "x"], [["a", 1], ["long name", 100]])
        self.assertEqual(text.splitlines(), ["name         x", "a            1", "long name  100"])

    def test_noise_takes_a_digit_away(self):
        self.assertEqual(table.figure(0.876), "0.88")
        self.assertEqual(table.figure(0.876, noisy=True), "~0.9")

    def test_megabytes(self):
        self.assertEqual([table.megabytes(n) for n in (1234567, 12345678, 123456789)], ["1.23", "12.3", "123"])


class Picture(unittest.TestCase):
    RESULTS = {"lua": {
        "slower": {"builtin": {"time": [1.0]}, "default": {"time": [1.1]}, "mimalloc": {"time": [2.0]}},
        "half": {"builtin": {"time": [2.0]}, "default": {"time": [1.0]}, "mimalloc": {"time": [1.0]}},
    }}

    def test_a_bar_is_as_long_as_its_ratio(self):
        self.assertEqual(textbars.bar(0.5), "█" * 10 + " " * 10 + "│")
        self.assertEqual(textbars.bar(1 / 160), "▏" + " " * 19 + "│")
        self.assertEqual(textbars.bar(1.1), "█" * 20 + "╂" + "█")

    def test_the_best_first_with_the_mean(self):
        lines = textbars.programs(self.RESULTS).splitlines()
        words = [re.sub("[█╂│]", " ", line).split() for line in lines]
        self.assertEqual(words, [["time,", "to", "built-in"] + ["this", "mimalloc"] * 2, ["half", "0.50", "0.50", "slower", "1.10", "2.00"],
                                 ["geometric", "mean", "0.74", "1.00"]])
        self.assertEqual(lines[1].index("0.50"), lines[2].index("0.74"))

    def test_without_programs_there_is_none(self):
        with self.assertRaises(runs.Failure):
            textbars.programs({"op": {}})


class Tuning(unittest.TestCase):
    @staticmethod
    def machine(cost):
        """lua_run on a machine without noise, where a run takes what cost(options) says."""
        ran = []

        def measure(name):
            ran.append(name)
            options = dict(pair.split(":") for pair in name.split(",") if ":" in pair)
            time, memory = cost(options, name)
            return {"result": "42", "wall_s": time, "user_s": time, "system_s": 0, "faults": 1,
                    "peak_resident": memory, "resident_at_end": memory}
        return measure, ran

    def search(self, goal, cost):
        measure, ran = self.machine(cost)
        search = tuning.Search(measure, goal, 5)
        search.run()
        return search, ran

    def test_finds_options_that_go_together(self):
        def cost(options, name):
            gain = 0.2 * (options.get("slab") == "64K") + 0.1 * (options.get("retain") == "400")
            return 1 - gain + 0.5 * (name == "builtin"), 1
        search, _ = self.search("time", cost)
        self.assertEqual(search.verdict().strip(), "JEMALLOC_LUA_CONF=slab:64K,retain:400")
        self.assertEqual({row[0]: row[1] for row in search.rows()},
                         {"builtin": "1.00", "glibc": "0.67", "default": "0.67", "slab:64K,retain:400": "0.47"})

    def test_drops_early_what_cannot_win(self):
        search, ran = self.search("time", lambda options, _: (2 if options.get("front") == "direct" else 1, 1))
        self.assertEqual(ran.count("front:direct"), tuning.FIRST)
        self.assertEqual(search.dropped(), 1)

    def test_says_so_when_nothing_beats_the_default(self):
        search, _ = self.search("time", lambda *_: (1, 1))
        self.assertIn("Nothing beats the defaults", search.verdict())

    def test_weighs_memory_where_asked(self):
        def cost(options, _):
            return (1.1, 0.5) if options.get("retain") == "25" else (1, 1)
        for goal, found in (("time", "front:slab"), ("memory", "retain:25"), ("balance", "retain:25")):
            self.assertTrue(self.search(goal, cost)[0].verdict().endswith(f"JEMALLOC_LUA_CONF={found}"), goal)

    def test_a_program_that_prints_something_else_each_time_is_refused(self):
        measure, ran = self.machine(lambda *_: (1, 1))
        with self.assertRaises(runs.Failure):
            tuning.Search(lambda name: measure(name) | {"result": str(len(ran))}, "time", 5).run()


class Interleaving(unittest.TestCase):
    def test_each_round_runs_every_allocator_and_turns_the_order(self):
        order = []
        samples = runs.interleave(["a", "b"], 2, lambda name: order.append(name) or len(order))
        self.assertEqual(order, ["a", "b", "b", "a"])
        self.assertEqual(samples, {"a": [1, 4], "b": [2, 3]})

    def test_some_take_part_in_fewer_rounds(self):
        order = []
        samples = runs.interleave(["a", "b"], 6, lambda name: order.append(name) or len(order), seldom={"b": 2})
        self.assertEqual("".join(order), "abaabaaa")
        self.assertEqual(runs.turns(["a", "b"], 6, {"b": 2}), len(order))
        self.assertEqual(stats.same_rounds(samples["b"], samples["a"]), [1, 6])

    def test_those_are_compared_with_their_own_rounds(self):
        against = stats.compare([2, 4, 2, 4], [1, 100, 2, 100, 1, 100, 2])
        self.assertEqual((against.minimum, against.median, against.noisy), (2, 2, False))


@unittest.skipUnless("JEMALLOC_LUA_BENCH" in os.environ, "needs the benchmark programs")
class OwnPrograms(unittest.TestCase):
    """Programs as people have them, under tools/tune."""

    COUNT = "print(#io.read('*a') * tonumber(arg[1]), select('#', ...), arg[0] ~= nil)"

    def tune(self, text, *arguments, options=(), **how):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "of my own ü.lua"
            script.write_bytes(text.encode("latin-1"))
            command = [sys.executable, "tools/tune", "--rounds", "3", *options, str(script), *arguments]
            how = how or {"stdin": subprocess.DEVNULL}
            return subprocess.run(command, capture_output=True, check=False, cwd=ROOT, text=True, **how)

    def check(self, done):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("\nJEMALLOC_LUA_CONF=", done.stdout)

    def test_each_run_gets_the_arguments_and_the_input(self):
        same = self.COUNT + " assert(arg[2] == '-x' and #arg == 2)"
        self.check(self.tune(same, "3", "-x", input="some words"))  # a pipe
        with tempfile.TemporaryFile("w+") as file:
            file.write("other words")
            file.seek(6)
            self.check(self.tune(same + " io.stdin:seek('set', 0) assert(io.read() == 'other words')", "3", "-x",
                                 stdin=file))

    def test_what_it_writes_may_be_anything(self):
        self.check(self.tune("io.write('no line\\255') print('\\255\\0')"))

    def refused(self, done, *names):
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        for name in names:
            self.assertIn(name, done.stderr)

    def test_what_it_does_not_get_along_with_it_names(self):
        self.refused(self.tune("os.exit(0)"), "os.exit()")
        self.refused(self.tune("local t = nil\nt.x = 1"), ".lua:2: attempt to index")
        self.refused(self.tune("print(io.open('/proc/self/stat'):read('*n'))"), "--any-output")
        self.check(self.tune("print(io.open('/proc/self/stat'):read('*n'))", options=["--any-output"]))


class WrongArguments(unittest.TestCase):
    def check(self, *command):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False)
        self.assertNotEqual(done.returncode, 0, command)
        self.assertNotIn("Traceback", done.stderr)
        self.assertTrue(done.stderr.strip(), command)
        return done

    def test_it_is_said_in_one_line(self):
        for command, names in (
            (["tools/tune"], "script"), (["tools/tune", "nosuch.lua"], "nosuch.lua"), (["tools/tune", "."], "folder"),
            (["tools/tune", "--rounds", "2", "x.lua"], "--rounds"), (["tools/tune", "--bogus", "x.lua"], "--bogus"),
            (["tools/replay", "--rounds", "x", "@json"], "--rounds"), (["tools/replay"], "file"),
            (["tools/report"], "json"), (["tools/report", "nosuch.json"], "nosuch.json"),
            (["tools/bench", "--build", "/nonexistent"], "/nonexistent has no lua_run"),
        ):
            done = self.check(*command)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            self.assertIn(names, done.stderr)

    def test_report_says_what_it_lacks_once_there_is_something_to_draw(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "matplotlib.py").write_text("raise ImportError\n", encoding="utf-8")
            file = Path(folder) / "results.json"
            file.write_text('{"benchmarks": [{"name": "op/pair/64/builtin", "cpu_time": 1, "time_unit": "ns"}]}',
                            encoding="utf-8")
            environment = os.environ | {"PYTHONPATH": folder, "JEMALLOC_LUA_REPORT": "1"}
            done = subprocess.run([sys.executable, "tools/report", str(file)], capture_output=True, text=True,
                                  cwd=ROOT, env=environment, check=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        self.assertIn("apt-get install python3-matplotlib", done.stderr)

    def test_bench_names_the_argument(self):
        self.assertIn("--rounds", self.check("tools/bench", "--rounds", "0").stderr)
        self.assertIn("--filter", self.check("tools/bench", "--filter", "(").stderr)


if __name__ == "__main__":
    main()
