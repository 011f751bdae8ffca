"""Small hosts that know nothing of the shim: whose states they get, and that all else is as before."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import unittest.mock
from pathlib import Path

from support import HOSTS, ROOT, SHIM, WITH_JEMALLOC, environment, main, run, under_shim

HOST = str(HOSTS / "preload_host")
DLOPEN_HOST = str(HOSTS / "preload_dlopen_host")
SUM = "5000050000"


class Shim(unittest.TestCase):
    def output(self, *command, **more):
        done = under_shim(*command, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def test_without_it_states_have_their_own_allocator(self):
        self.assertEqual(run(HOST, "close").stdout, f"own {SUM}\n")

    def test_luaL_newstate_makes_our_state(self):
        self.assertEqual(self.output(HOST, "close"), [f"ours {SUM}"])

    def test_states_that_are_never_closed(self):
        self.assertEqual(self.output(HOST, "leave-open"), [f"ours {SUM}"] * 2)

    def test_lua_newstate_with_the_internal_allocator_makes_our_state_without_a_panic_function(self):
        self.assertEqual(self.output(HOST, "internal"), ["panic none", f"ours {SUM}"])

    def test_luaL_newstate_sets_a_panic_function(self):
        self.assertEqual(self.output(HOST, "panic"), ["panic set"])

    def test_an_allocator_of_the_hosts_own_is_respected(self):
        self.assertEqual(self.output(HOST, "own"), [f"own {SUM}"])

    def test_states_work_on_both_sides_of_a_fork(self):
        self.assertEqual(self.output(HOST, "fork"), [f"ours {SUM}"] * 7)

    def test_threads_with_a_state_each(self):
        self.assertEqual(self.output(HOST, "threads"), [f"ours {SUM}"] * 80)

    def test_a_thousand_states_come_and_go(self):
        self.assertEqual(self.output(HOST, "states"), [f"ours {SUM}"])

    def test_options_reach_the_states(self):
        done = under_shim(HOST, "close", options=["--conf", "limit:1M"])
        self.assertEqual(done.stdout, "error: not enough memory\n")

    def test_an_arena_that_does_not_exist_is_told_once_and_the_host_runs_as_before(self):
        done = under_shim(HOST, "leave-open", options=["--conf", "arena:4000"])
        self.assertEqual(done.stdout, f"own {SUM}\n" * 2)
        self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_states_find_the_module_jemalloc_without_files_and_on_the_jemalloc_that_is_there(self):
        provider, *mapped = self.output(HOST, "module")
        self.assertEqual(provider, "own\t33554432\t5")
        self.assertEqual(len(mapped), 1)  # one LuaJIT, and no libjemalloc
        self.assertIn("libluajit", mapped[0])

    def test_a_plugin_that_shows_its_lua_to_no_one(self):
        self.assertEqual(self.output(DLOPEN_HOST, HOSTS / "libpreload_plugin.so"), ["ours"])

    def test_a_plugin_whose_function_ends_by_making_the_state(self):
        """The return address is then in the host, which has no Lua."""
        with unittest.mock.patch.dict(os.environ, TAIL="1"):
            self.assertEqual(self.output(DLOPEN_HOST, HOSTS / "libpreload_plugin.so"), ["ours"])

    @unittest.skipUnless((HOSTS / "libpreload_puc_plugin.so").exists(), "lua5.1 is not installed")
    def test_a_call_that_does_not_show_which_of_two_luas_it_means_is_refused_by_name(self):
        with unittest.mock.patch.dict(os.environ, TAIL="1"):
            done = under_shim(DLOPEN_HOST, HOSTS / "libpreload_plugin.so", HOSTS / "libpreload_puc_plugin.so",
                              options=["--verbose"])
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("ours", done.stdout)
        self.assertIn("more than one Lua", done.stderr)

    def test_a_c_module_that_makes_states(self):
        load = f"package.loadlib('{HOSTS / 'libpreload_plugin.so'}', 'run')()"
        self.assertEqual(self.output(HOST, "script", load), ["ours"])

    def test_every_symbol_can_be_bound_at_start(self):
        libraries = f"{Path(SHIM).parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"  # LD_PRELOAD takes no spaces
        done = run("env", f"LD_PRELOAD={Path(SHIM).name}", f"LD_LIBRARY_PATH={libraries}", "LD_BIND_NOW=1", HOST, "close")
        self.assertEqual((done.stdout, done.stderr), (f"ours {SUM}\n", ""))

    def test_a_program_without_lua_runs_as_before(self):
        self.assertEqual(self.output("sh", "-c", "echo $((6 * 7))"), ["42"])

    def test_verbose_names_a_program_that_asks_for_no_state(self):
        done = under_shim("true", options=["--verbose"])
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual(done.stderr, "jemalloc_lua: true asked for no state of LuaJIT: it has none, or one linked "
                                      "into itself\n")

    def test_verbose_names_it_once_and_not_again_for_its_children(self):
        done = under_shim("bash", "-c", "(exit 0); (exit 0); exit 0", options=["--verbose"])
        self.assertEqual(done.stderr.count("bash asked for no state"), 1)

    def test_verbose_is_silent_where_all_is_well(self):
        self.assertEqual(under_shim(HOST, "close", options=["--verbose"]).stderr, "")

    def test_only_the_public_names_are_exported(self):
        symbols = subprocess.run(["nm", "-D", "--defined-only", SHIM], capture_output=True, text=True, check=True)
        names = {line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()}
        others = {name for name in names if not name.startswith("jemalloc_lua_")}
        self.assertEqual(others, {"luaL_newstate", "lua_newstate", "JEMALLOC_LUA_1"})


NO_GC64 = HOSTS / "libpreload_no_gc64_plugin.so"


@unittest.skipUnless(NO_GC64.exists(), "every LuaJIT of this machine's kind is built with GC64")
class WithoutGC64(unittest.TestCase):
    def test_it_runs_as_before_in_silence(self):
        done = under_shim(DLOPEN_HOST, NO_GC64)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "own\n" * 3, ""))

    def test_verbose_says_so_in_one_line(self):
        done = under_shim(DLOPEN_HOST, NO_GC64, options=["--verbose"])
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("own\n" * 3, 1))
        self.assertIn("without GC64", done.stderr)


LUAJIT = shutil.which("luajit")


@unittest.skipUnless(LUAJIT and "libluajit" not in run("ldd", LUAJIT).stdout,
                     "luajit is not installed, or has LuaJIT from a shared library")
class LuaJITInTheProgramItself(unittest.TestCase):
    def test_it_runs_as_before_in_silence(self):
        done = under_shim("luajit", "-e", "print(6 * 7)")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "42\n", ""))

    def test_verbose_says_so_in_one_line(self):
        done = under_shim("luajit", "-e", "print(6 * 7)", options=["--verbose"])
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("42\n", 1))
        self.assertIn("linked into itself", done.stderr)


@unittest.skipUnless((HOSTS / "libpreload_puc_plugin.so").exists(), "lua5.1 is not installed")
class PucLua(unittest.TestCase):
    def test_it_runs_as_before_in_silence(self):
        done = under_shim(DLOPEN_HOST, str(HOSTS / "libpreload_puc_plugin.so"))
        self.assertEqual((done.stdout, done.stderr), ("own\n", ""))


class Statistics(unittest.TestCase):
    ROW = r"(?m)^ +\d+ +slab +\d+ +{} "

    def table(self, mode, *options):
        done = under_shim(HOST, mode, options=options)
        self.assertEqual(done.returncode, 0)
        return done.stderr

    def test_states_that_were_closed_are_listed_at_exit(self):
        table = self.table("close", "--stats")
        self.assertIn("(preload_host): 0 states open, 1 closed", table)
        self.assertRegex(table, self.ROW.format("closed"))

    def test_states_that_were_left_open_are_listed_at_exit(self):
        table = self.table("leave-open", "--stats")
        self.assertIn("2 states open, 0 closed", table)
        self.assertEqual(len(re.findall(self.ROW.format(r"\d+"), table)), 2)

    def test_each_process_of_a_fork_lists_its_own(self):
        tables = self.table("fork", "--stats")
        self.assertEqual(tables.count("0 states open, 2 closed"), 3)
        self.assertEqual(tables.count("0 states open, 1 closed"), 1)

    def test_of_many_closed_states_the_last_are_listed(self):
        table = self.table("states", "--stats")
        self.assertIn("1 states open, 1000 closed", table)
        self.assertLess(len(table.splitlines()), 30)

    def test_a_table_comes_in_one_piece(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps what is written at once together
        with ours:
            with theirs:
                subprocess.run([WITH_JEMALLOC, "--stats", "--", HOST, "states"], stdout=subprocess.DEVNULL,
                               stderr=theirs, env=environment(), check=True, timeout=120)
            table = ours.recv(1 << 16).decode()
            self.assertIn("1000 closed", table)
            self.assertEqual(len(table.splitlines()), 2 + 16 + 1)
            self.assertEqual(ours.recv(1), b"")

    def test_a_signal_prints_them_while_the_host_runs(self):
        self.assertIn("1 states open, 0 closed", self.table("signal", "--conf", "stats_signal:USR2"))

    # A heap's figures are at hand for a handler: it asks jemalloc nothing, whose locks the thread may hold.
    def test_a_signal_may_come_at_any_time(self):
        for front in ("slab", "direct"):
            done = under_shim(HOST, "signals", options=["--conf", f"stats_signal:USR2,arena:own,front:{front}"])
            self.assertEqual(done.returncode, 0, done.stderr[-300:])

    def test_a_signal_that_the_host_has_a_use_for_stays_the_hosts(self):
        done = under_shim(HOST, "own-signal", options=["--conf", "stats_signal:USR2"])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "the host's\n", ""))

    def test_a_signal_that_comes_while_the_process_forks_is_answered_by_the_parent(self):
        before = self.table("signal-in-fork", "--conf", "stats_signal:USR2").partition("after the fork")[0]
        self.assertEqual(before.count("1 states open, 0 closed"), 1)

    def test_the_signal_is_left_alone_where_it_is_not_asked_for(self):
        self.assertEqual(under_shim(HOST, "signal").returncode, -signal.SIGUSR2)


class LiveView(unittest.TestCase):
    def test_the_states_of_a_host_are_in_its_file(self):
        with tempfile.TemporaryDirectory() as folder:
            conf = f"stats_file:{folder}/file"
            host = subprocess.Popen([WITH_JEMALLOC, "--conf", conf, "--", HOST, "wait"], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True, env=environment())
            with host:
                self.assertEqual([host.stdout.readline() for _ in range(2)], [f"ours {SUM}\n"] * 2)
                table = run(str(ROOT / "tools" / "top"), str(host.pid)).stdout.splitlines()
                self.assertIn(f"preload_host ({host.pid}): 2 states open", table[0])
                self.assertEqual(len(table), 4)
            self.assertEqual(os.listdir(folder), [])


class WithJemalloc(unittest.TestCase):
    def refused(self, *arguments):
        done = run(WITH_JEMALLOC, *arguments)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1))
        return done.stderr

    def test_usage_errors_are_one_line(self):
        self.assertIn("which command", self.refused())
        self.assertIn("unknown option '--stat'", self.refused("--stat", "true"))
        self.assertIn("no such command", self.refused("no-such-command"))

    def test_it_may_be_in_a_folder_with_spaces(self):
        with tempfile.TemporaryDirectory(prefix="my folder ü ") as folder:
            shim = shutil.copy(SHIM, folder)
            done = subprocess.run([WITH_JEMALLOC, HOST, "close"], capture_output=True, text=True, check=False,
                                  env=environment(JEMALLOC_LUA_PRELOAD=shim))
            self.assertEqual((done.stdout, done.stderr), (f"ours {SUM}\n", ""))

    def test_the_commands_status_is_kept(self):
        self.assertEqual(under_shim("sh", "-c", "exit 7").returncode, 7)


main()
