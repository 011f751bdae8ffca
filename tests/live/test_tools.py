"""tools/top and tools/metrics on a process with many states, and on what a killed one left."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unittest

from host import METRICS, TOP, WithFolder, main, pty_is_missing

PROMTOOL = os.environ.get("PROMTOOL", "")
ROWS, COLUMNS = 24, 100
MIB = 1 << 20


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def numbers(row):
    """The columns of a table's row; None for "-"."""
    return [None if word == "-" else int(word.replace(",", "")) for word in row.split()]


class Screen:
    """A pseudo-terminal that a command writes tables to, frame by frame."""

    def __init__(self, *command):
        self.side, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.modes = termios.tcgetattr(other)
        self.process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, start_new_session=True,
                                        env={"PATH": os.environ["PATH"], "TERM": "xterm"})
        self.other = other  # kept open, so that what was written last can be read
        self.seen = ""

    def read(self):
        if not select.select([self.side], [], [], 60)[0]:
            raise AssertionError(f"nothing comes after {self.seen[-200:]!r}")
        self.seen += os.read(self.side, 1 << 16).decode()

    def frame(self):
        """The lines of the next whole frame: from the home position to where the rest of the screen is erased."""
        while "\x1b[J" not in self.seen:
            self.read()
        frame, self.seen = self.seen.split("\x1b[J", 1)
        before, _, frame = frame.rpartition("\x1b[H")
        return before, [re.sub(r"\x1b\[[0-9]*[mK]", "", line) for line in frame.split("\r\n")]

    def frame_where(self, is_right):
        for _ in range(200):
            _, lines = self.frame()
            if is_right(lines):
                return lines
        raise AssertionError(f"200 frames, and none is right: {lines}")

    def press(self, key):
        os.write(self.side, key.encode())

    def rest(self):
        self.process.wait(timeout=60)
        while select.select([self.side], [], [], 0)[0]:
            self.read()
        return self.seen

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.side)
        os.close(self.other)


class Top(WithFolder):
    def screen(self, *command):
        missing = pty_is_missing()
        if missing:
            self.skipTest(missing)
        screen = Screen(*command)
        self.addCleanup(screen.close)
        return screen

    def test_a_thousand_states_refresh_in_place_sorted_until_q(self):
        host = self.host()
        host.do("make 1000")
        for number in range(1, 1001, 50):
            host.do(f"run {number} t = ('x'):rep({number} * 1e4)")
        screen = self.screen(TOP, "--delay", "0.1", str(host.pid))
        before, lines = screen.frame()
        self.assertEqual(before, "\x1b[?1049h\x1b[?25l")  # a screen of its own
        self.assertIn(f"live_host ({host.pid}): 1,000 states open, 0 closed", lines[0])
        self.assertEqual(len(lines), ROWS)
        rows = [numbers(line) for line in lines[2:-1]]
        footprints = [row[3] for row in rows]
        self.assertEqual(footprints, sorted(footprints, reverse=True))
        self.assertGreater(len(set(footprints)), 5)
        self.assertIn("rows 1 to 21 of 1,000", lines[-1])
        self.assertLessEqual(max(len(line.rstrip()) for line in lines[1:]), 80)

        host.do("run 777 t = ('x'):rep(5e7)")
        before, lines = screen.frame()
        self.assertEqual(before, "")  # over the last frame
        lines = screen.frame_where(lambda lines: numbers(lines[2])[0] == 777)
        self.assertEqual(len(lines), ROWS)

        screen.press("s")
        screen.frame_where(lambda lines: [numbers(line)[0] for line in lines[2:5]] == [1000, 999, 998])
        screen.press("s")
        screen.frame_where(lambda lines: [numbers(line)[0] for line in lines[2:5]] == [1, 2, 3])
        screen.press("\x1b[6~")  # page down
        screen.frame_where(lambda lines: numbers(lines[2])[0] == 22)
        screen.press("\x1b[F")  # end
        lines = screen.frame_where(lambda lines: numbers(lines[2])[0] == 980)
        self.assertIn("rows 980 to 1,000 of 1,000", lines[-1])
        screen.press("\x1b[H")  # home
        screen.frame_where(lambda lines: numbers(lines[2])[0] == 1)
        screen.press("q")
        self.assertTrue(screen.rest().endswith("\x1b[?25h\x1b[?1049l"))
        self.assertEqual(screen.process.returncode, 0)
        self.assertEqual(termios.tcgetattr(screen.other), screen.modes)

    def test_a_rate_is_in_requests_per_second(self):
        host = self.host()
        host.do("make 2")
        screen = self.screen(TOP, "--delay", "0.1", str(host.pid))
        screen.frame()
        screen.frame_where(lambda lines: [numbers(line)[7] for line in lines[2:4]] == [0, 0])
        host.do("run 2 t = {} for i = 1, 1e5 do t[i] = {i} end")
        screen.frame_where(lambda lines: numbers(lines[2])[0] == 2 and numbers(lines[2])[7] > 10000)
        screen.frame_where(lambda lines: numbers(lines[2])[7] == 0)
        screen.press("q")
        self.assertEqual(screen.process.wait(timeout=60), 0)

    def test_it_goes_on_when_the_process_ends_and_gives_the_terminal_back_when_it_is_killed(self):
        host = self.host()
        host.do("make 1")
        screen = self.screen(TOP, "--delay", "0.1", str(host.pid))
        screen.frame()
        host.end("exit")
        screen.frame_where(lambda lines: "the process has ended" in lines[0])
        screen.process.send_signal(signal.SIGTERM)
        self.assertTrue(screen.rest().endswith("\x1b[?25h\x1b[?1049l"))
        self.assertEqual(termios.tcgetattr(screen.other), screen.modes)

    def test_where_the_output_is_no_terminal_the_table_is_printed_once(self):
        host = self.host()
        host.do("make 3")
        host.do(f"limit 3 {64 * MIB}")
        host.do("run 2 t = ('x'):rep(1e6)")
        done = run(TOP, str(host.pid))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        title, head, *rows = done.stdout.splitlines()
        self.assertIn("3 states open", title)
        self.assertEqual(head.split(), ["[s]tate", "[a]rena", "[l]ive", "[f]ootprint", "[p]eak", "li[m]it",
                                        "ref[u]sals", "[r]ate"])
        self.assertEqual(numbers(rows[0])[0], 2)
        self.assertEqual({(row[0], row[5]) for row in map(numbers, rows)}, {(1, None), (2, None), (3, 65536)})

    def test_without_an_argument_processes_are_listed(self):
        hosts = [self.host(), self.host()]
        for host in hosts:
            host.do("make 2")
        rows = run(TOP).stdout.splitlines()[2:]
        listed = {int(row.split()[0]): row for row in rows}
        for host in hosts:
            self.assertRegex(listed[host.pid], rf"live_host +2 .* {self.folder}/{host.pid}$")

    def test_what_a_killed_process_left_is_shown_by_its_path(self):
        host = self.host()
        host.do("make 2")
        host.kill()
        done = run(TOP, str(self.folder / str(host.pid)))
        self.assertIn("2 states open, 0 closed", done.stdout)
        self.assertIn("the process has ended", done.stdout)

    def test_what_is_wrong_is_one_line(self):
        empty = self.folder / "empty"
        empty.write_bytes(b"")
        other = self.folder / "other"
        other.write_bytes(b"x" * 5000)
        for tool in (TOP, METRICS):
            for argument, status, why in ((str(os.getpid()), 1, "has no file of statistics"),
                                          ("4194305", 1, "there is no such process"),
                                          ("/no/such/file", 1, "No such file"),
                                          (str(empty), 1, "no file of jemalloc_lua's statistics"),
                                          (str(other), 1, "no file of jemalloc_lua's statistics"),
                                          (str(self.folder), 1, "Is a directory"),
                                          ("--frobnicate", 2, "--frobnicate")):
                done = run(tool, argument)
                self.assertEqual((done.returncode, done.stdout, len(done.stderr.splitlines())), (status, "", 1))
                self.assertIn(why, done.stderr)
        done = run(TOP, "--delay", "soon")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1))
        self.assertIn("it takes seconds", done.stderr)

    def test_a_disk_that_is_full_is_one_line(self):
        host = self.host()
        host.do("make 1")
        for tool in (TOP, METRICS):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([tool, str(host.pid)], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1))
            self.assertIn("standard output: No space left on device", done.stderr)


class Metrics(WithFolder):
    def setUp(self):
        super().setUp()
        self.one = self.host()
        self.one.do("make 3")
        self.one.do(f"limit 2 {4 * MIB}")
        self.one.do("run 2 t = ('x'):rep(1e7)")
        self.one.do("close 1")

    def values(self, *arguments):
        done = run(METRICS, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        pairs = (line.rsplit(" ", 1) for line in done.stdout.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def test_states_and_processes_have_their_numbers(self):
        values = self.values(str(self.one.pid))
        process = f'pid="{self.one.pid}",program="live_host"'
        self.assertEqual(values[f"jemalloc_lua_states{{{process}}}"], 2)
        self.assertEqual(values[f"jemalloc_lua_states_closed_total{{{process}}}"], 1)
        state = f'{{{process},state="2",front="slab"}}'
        self.assertEqual(values[f"jemalloc_lua_state_limit_bytes{state}"], 4 * MIB)
        self.assertGreater(values[f"jemalloc_lua_state_refusals_total{state}"], 0)
        self.assertGreaterEqual(values[f"jemalloc_lua_state_footprint_bytes{state}"],
                                values[f"jemalloc_lua_state_live_bytes{state}"])
        self.assertNotIn(f'jemalloc_lua_state_limit_bytes{{{process},state="3",front="slab"}}', values)

    def test_several_processes_are_in_one_text(self):
        two = self.host()
        two.do("make 1")
        values = self.values(str(self.one.pid), str(self.folder / str(two.pid)))
        self.assertEqual(sum(name.startswith("jemalloc_lua_states{") for name in values), 2)

    @unittest.skipUnless(PROMTOOL, "promtool is not installed (tools/setup --all)")
    def test_promtool_finds_nothing(self):
        text = run(METRICS, str(self.one.pid)).stdout
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text + "x{} y\n", capture_output=True, text=True,
                              check=False)
        self.assertNotEqual(done.returncode, 0)


main()
