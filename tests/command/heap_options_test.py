"""The options that luajit does not have: the heap's options, statistics, allocators."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from command import OURS, main, run

RUNAWAY = "t={} for i=1,1e8 do t[i]={} end"


class Conf(unittest.TestCase):
    def test_a_limit_stops_a_runaway_program(self):
        for front in ("direct", "slab"):
            done = run("--jemalloc", f"front:{front},arena:own,limit:16M", "-e", RUNAWAY)
            self.assertEqual(done, ("", f"{OURS}: not enough memory\n", 1))

    def test_a_limit_is_an_error_that_a_program_can_catch(self):
        done = run("--jemalloc", "limit:16M", "-e",
                   f"print(pcall(function() local {RUNAWAY} end)) collectgarbage() print(#('x'):rep(1000))")
        self.assertEqual(done, ("false\tnot enough memory\n1000\n", "", 0))

    def test_a_bad_pair_is_one_line_and_exit_2(self):
        for conf, key in (("limit:12Q", "limit"), ("front:fast", "front"), ("nothing:1", "nothing"),
                          ("limit", "limit"), ("slab:1000", "slab"), ("limit:-1", "limit")):
            done = run("--jemalloc", conf, "-e", "print(1)")
            self.assertEqual((done.out, done.code), ("", 2), conf)
            self.assertEqual(len(done.err.splitlines()), 1, done.err)
            self.assertIn(key, done.err)

    def test_the_line_says_what_a_key_takes(self):
        self.assertIn("slab, direct or checked", run("--jemalloc", "front:fast").err)

    def test_values_are_glued_or_apart_and_add_up(self):
        done = run("--jemalloc=limit:64M", "--jemalloc", "front:direct", "--jemalloc-stats=json", "-e", "")
        stats = json.loads(done.err)
        self.assertEqual((stats["limit"], stats["front"]), (64 << 20, "direct"))

    def test_they_mix_with_luajits_options(self):
        done = run("-e", "print(1)", "--jemalloc", "front:direct", "-O2", "--jemalloc-stats=json",
                   "-e", "print(2)")
        self.assertEqual((done.out, done.code), ("1\n2\n", 0))
        self.assertEqual(json.loads(done.err)["front"], "direct")

    def test_after_the_script_they_are_the_scripts(self):
        done = run("--jemalloc", "front:direct", "-", "--jemalloc", "limit:12Q", stdin="print(...)")
        self.assertEqual(done, ("--jemalloc\tlimit:12Q\n", "", 0))

    def test_arg_holds_them_below_the_script(self):
        done = run("--jemalloc", "front:direct", "-", "a", stdin="print(arg[-2], arg[-1], arg[0], arg[1])")
        self.assertEqual(done.out, "--jemalloc\tfront:direct\t-\ta\n")

    def test_the_environment_comes_first(self):
        done = run("--jemalloc", "limit:8M", "--jemalloc-stats=json", "-e", "",
                   JEMALLOC_LUA_CONF="front:direct,limit:64M")
        stats = json.loads(done.err)
        self.assertEqual((stats["limit"], stats["front"]), (8 << 20, "direct"))

    def test_minus_E_ignores_the_environment(self):
        done = run("-E", "--jemalloc-stats=json", "-e", "", JEMALLOC_LUA_CONF="limit:64M")
        self.assertEqual(json.loads(done.err.splitlines()[-1])["limit"], 0)
        script = "print(os.getenv 'JEMALLOC_LUA_CONF')"
        done = run("-E", "-e", script, JEMALLOC_LUA_CONF="stats_file:/no/such/folder/file,limit:x")
        self.assertEqual((done.out, done.err), ("stats_file:/no/such/folder/file,limit:x\n", ""))

    def test_a_bad_pair_in_the_environment_is_reported_and_the_rest_is_used(self):
        done = run("--jemalloc-stats=json", "-e", "",
                   JEMALLOC_LUA_CONF="front:direct,limit:12Q,nothing,slab:64K")
        *reports, stats = done.err.splitlines()
        self.assertEqual(done.code, 0)
        self.assertEqual(len(reports), 2)
        self.assertIn("limit", reports[0])
        self.assertIn("nothing", reports[1])
        self.assertEqual(json.loads(stats)["front"], "direct")

    def test_the_same_with_options_over_it(self):
        done = run("--jemalloc", "limit:8M", "--jemalloc-stats=json", "-e", "",
                   JEMALLOC_LUA_CONF="nothing,front:direct")
        report, stats = done.err.splitlines()
        self.assertIn("nothing", report)
        self.assertEqual(json.loads(stats)["front"], "direct")

    def test_options_of_the_environment_that_go_together(self):
        done = run("-e", "print(1)", JEMALLOC_LUA_CONF="tcache:thread,front:direct,arena:thread")
        self.assertEqual(done, ("1\n", "", 0))

    def test_bytecode_is_saved_on_the_heap_asked_for(self):
        done = run("--jemalloc", "front:checked", "--jemalloc-stats=json", "-bl", "-e", "print(1)")
        self.assertIn("GGET", done.out)
        self.assertEqual(json.loads(done.err)["front"], "checked")


class Creation(unittest.TestCase):
    def fails(self, conf, what):
        done = run("--jemalloc", conf, "-e", "print(1)")
        self.assertEqual((done.out, done.code), ("", 1))
        self.assertEqual(len(done.err.splitlines()), 1, done.err)
        self.assertIn(what, done.err)

    def test_no_memory(self):
        for conf in ("limit:10K", "limit:40K", "front:direct,limit:10K", "front:direct,limit:30K"):
            self.fails(conf, "not enough memory: limit:" + conf.rpartition(":")[2] + " is too small for a state")
        self.assertEqual(run("--jemalloc", "limit:128K", "-e", "print(1)"), ("1\n", "", 0))

    def test_an_arena_that_is_not_there(self):
        self.fails("arena:4000", "arena:4000")

    def test_no_memory_for_the_libraries(self):
        for limit in range(64, 512, 64):
            done = run("--jemalloc", f"limit:{limit}K,arena:shared", "-e", "print(1)")
            if done.code == 0:
                self.assertEqual(done, ("1\n", "", 0))
            else:
                self.assertEqual((done.out, done.code), ("", 1))
                self.assertIn("not enough memory", done.err)


class Stats(unittest.TestCase):
    def test_a_table_on_stderr(self):
        done = run("--jemalloc-stats", "-e", "print(1)")
        self.assertEqual((done.out, done.code), ("1\n", 0))
        names = [line.split()[0] for line in done.err.splitlines()]
        for name in ("live", "footprint", "peak", "slabs", "large_blocks"):
            self.assertIn(name, names)
        self.assertEqual(run("--jemalloc-stats=table", "-e", "").code, 0)

    def test_json_for_programs(self):
        stats = json.loads(run("--jemalloc-stats=json", "-e", "x = ('x'):rep(1e6)").err)
        self.assertGreater(stats["live"], 1_000_000)
        self.assertGreaterEqual(stats["footprint"], stats["live"])
        self.assertGreaterEqual(stats["peak"], stats["footprint"])

    def test_once_however_the_program_ends(self):
        for chunk, code in (("", 0), ("error('x')", 1), ("os.exit(5)", 5), ("os.exit(5, true)", 5),
                            ("coroutine.wrap(function() os.exit(5) end)()", 5), (RUNAWAY, 1)):
            done = run("--jemalloc", "limit:16M", "--jemalloc-stats=json", "-e", chunk)
            self.assertEqual(done.code, code, chunk)
            reports = [line for line in done.err.splitlines() if line.startswith("{")]
            self.assertEqual(len(reports), 1, chunk)
            json.loads(reports[0])

    def test_after_all_other_finalizers(self):
        chunk = "local u = newproxy(true) getmetatable(u).__gc = function() kept = ('x'):rep(1e6) end"
        self.assertGreater(json.loads(run("--jemalloc-stats=json", "-e", chunk).err)["live"], 1_000_000)

    def test_after_what_the_program_wrote(self):
        done = run("--jemalloc-stats=json", "-e", "io.stderr:write('mine\\n')")
        self.assertEqual(done.err.splitlines()[0], "mine")

    def test_not_where_there_is_no_state(self):
        self.assertNotIn("{", run("--jemalloc-stats=json", "--jemalloc", "limit:10K").err)


class Allocators(unittest.TestCase):
    CHUNK = "local t = {} for i = 1, 1e5 do t[i] = { i } end t = nil collectgarbage() print(jit.version)"

    def test_each_runs_a_program(self):
        outcomes = {run(f"--jemalloc-allocator={name}", "-e", self.CHUNK)
                    for name in ("builtin", "system", "heap")}
        self.assertEqual(len(outcomes), 1)
        self.assertEqual(outcomes.pop().code, 0)

    def test_misuse_is_one_line_and_exit_2(self):
        for args in (["--jemalloc-allocator", "mine"], ["--jemalloc-allocator"], ["--jemalloc"],
                     ["--jemalloc-stats=xml"], ["--jemalloc-help=x"], ["--jemalloc-nothing"],
                     ["--jemallocx", "x"], ["--jemalloc-allocator=system", "--jemalloc", "limit:1M"],
                     ["--jemalloc-stats", "--jemalloc-allocator=builtin"]):
            done = run(*args)
            self.assertEqual((done.out, done.code), ("", 2), args)
            self.assertEqual(len(done.err.splitlines()), 1, done.err)
            self.assertTrue(done.err.startswith(f"{OURS}: "), done.err)


class Help(unittest.TestCase):
    def test_every_option_with_its_default(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([OURS, "--jemalloc-help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("cannot write", done.stderr)
        done = run("--jemalloc-help")
        self.assertEqual((done.err, done.code), ("", 0))
        for word in ("front", "slab, direct or checked", "limit", "nursery", "128K", "dirty_decay_ms"):
            self.assertIn(word, done.out)

    def test_usage_lists_our_options(self):
        done = run("-?")
        self.assertEqual(done.code, 1)
        for option in ("--jemalloc CONF", "--jemalloc-stats", "--jemalloc-allocator", "--jemalloc-help"):
            self.assertIn(option, done.err)


class Profile(unittest.TestCase):
    """jemalloc's heap profile, by the command of OPTIONS.md."""

    def test_it_goes_through_compiled_code_on_each_front(self):
        has_profiles = run("-e", "print(require 'jemalloc'.mallctl_read('config.prof'))").out
        if has_profiles != "true\n":
            self.skipTest("this jemalloc is built without heap profiles")
        program = "local t = {} for i = 1, 2e5 do t[i] = {i} end kept = t io.write('done') os.exit(0)"
        for options in (("--jemalloc", "front:direct", "-jon"), ("--jemalloc", "front:direct", "-joff"), ("-jon",),
                        ("--jemalloc", "front:direct", "-Ohotloop=1", "-Ohotexit=1")):
            with self.subTest(options), tempfile.TemporaryDirectory() as folder:
                conf = f"prof:true,lg_prof_sample:12,prof_final:true,prof_prefix:{folder}/lua"
                done = run(*options, "-e", program, JE_MALLOC_CONF=conf)
                self.assertEqual(done, ("done", "", 0))
                profile, = Path(folder).iterdir()
                self.assertRegex(profile.read_text(), r"^heap_v2/4096\n[^@]*: [1-9]")
                self.assertIn("MAPPED_LIBRARIES", profile.read_text())


if __name__ == "__main__":
    main()
