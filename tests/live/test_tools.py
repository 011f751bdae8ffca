"""tools/top and tools/metrics on a process with many states, and on what a killed one left."""

import fcntl
import json
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import unittest
from importlib.machinery import SourceFileLoader
from random import Random

from host import METRICS, TOP, WithFolder, main, pty_is_missing, stats_file

top, metrics = (SourceFileLoader(f"{name}_of_tools", path).load_module() for name, path in (("top", TOP), ("metrics", METRICS)))

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
        self.assertRegex(title, r"3 states open, 0 closed; live [\d,]+ KiB; footprint [\d,]+ KiB; 0 refusals$")
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

    def test_a_process_that_has_the_id_of_one_that_has_ended_is_not_taken_for_it(self):
        host = self.host()
        host.do("make 2")
        host.kill()
        path = self.folder / str(host.pid)
        text = bytearray(path.read_bytes())
        text[24:32] = os.getpid().to_bytes(8, "little")
        path.write_bytes(text)
        done = run(TOP, str(path))
        self.assertIn(f"live_host ({os.getpid()}): 2 states open", done.stdout)
        self.assertIn("the process has ended", done.stdout)

    def test_what_another_user_sees_is_a_copy_and_its_age(self):
        host = self.host()
        resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (MIB, MIB))  # so there is no shared memory
        host.do("make 2")
        self.assertRegex(run(TOP, str(self.folder / str(host.pid))).stdout, r"; as of \d+ s ago; ")
        self.assertIn("has no file of statistics", run(TOP, str(host.pid)).stderr)

    def test_names_do_nothing_to_a_terminal(self):
        for name in ("\x1b]0;EVIL\x07", "\x1b[2J", "a\nb", "\u202eevil", os.fsdecode(b"\xff"), "\x9b2J", "a\rb"):
            host = self.host(f"stats_file:'{self.folder}/{name}%p'", name=name)
            host.do("make 2")
            path = f"{self.folder}/{name}{host.pid}"
            for command in ((TOP,), (TOP, str(host.pid)), (TOP, path), (METRICS,), (METRICS, path), (TOP, path + "x")):
                done = subprocess.run(command, capture_output=True, timeout=120, check=False,
                                      env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
                told = (done.stdout + done.stderr).decode("utf-8")
                self.assertTrue(told.replace("\n", "").isprintable(), (command, told))
                self.assertEqual(done.returncode, int(command[-1].endswith("x")), told)
                self.assertLess(len(done.stderr.splitlines()), 2)
            host.end("exit")
            self.assertEqual(host.errors.count("\n"), 0)

    def test_a_file_that_shrinks_under_the_reader_is_one_line(self):
        host = self.host()
        resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
        host.do("make 2")
        path = self.folder / str(host.pid)
        screen = self.screen(TOP, "--delay", "0.1", str(path))
        screen.frame()
        os.truncate(path, 0)
        self.assertIn(f"{path}: damaged: it ends too early", screen.rest())
        self.assertEqual(screen.process.returncode, 1)
        self.assertEqual(termios.tcgetattr(screen.other), screen.modes)

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
        state = f'{{{process},state="2",front="slab",way_back="purge"}}'
        self.assertEqual(values[f"jemalloc_lua_state_limit_bytes{state}"], 4 * MIB)
        self.assertGreater(values[f"jemalloc_lua_state_refusals_total{state}"], 0)
        self.assertGreaterEqual(values[f"jemalloc_lua_state_footprint_bytes{state}"],
                                values[f"jemalloc_lua_state_live_bytes{state}"])
        self.assertNotIn(f'jemalloc_lua_state_limit_bytes{{{process},state="3",front="slab",way_back="purge"}}', values)

    def test_several_processes_are_in_one_text(self):
        two = self.host()
        two.do("make 1")
        values = self.values(str(self.one.pid), str(self.folder / str(two.pid)))
        self.assertEqual(sum(name.startswith("jemalloc_lua_states{") for name in values), 2)

    def test_each_statistic_has_a_metric_and_its_help(self):
        text = run(METRICS, str(self.one.pid)).stdout
        for value in stats_file.StatsFile(pid=self.one.pid).read().schema.state:
            if value.unit not in ("word", "words"):
                self.assertRegex(text, rf"(?m)^# HELP jemalloc_lua_state_{value.name}\w* {re.escape(value.help)}$")
        for name in ("live_bytes", "soft_limit_bytes", "large_bytes", "purged_bytes_total", "requests_total", "arena",
                     "made_timestamp_seconds", "slabs"):
            self.assertIn(f"\njemalloc_lua_state_{name}{{", text)
        self.assertIn("\njemalloc_lua_closed_states_requests_total{", text)

    def test_a_process_that_lies_does_not_spoil_the_others(self):
        path = self.folder / "liar"
        text = bytearray((self.folder / str(self.one.pid)).read_bytes())
        schema, size = struct.unpack_from("<2I", text, 40)
        lies = (text[schema:schema + size].replace(b'"bytes","kind":"gauge"', b'"index","kind":"bound"')
                .replace(b"in use, as", b"\\u000aevil{} 1"[:10]))
        self.assertEqual(len(lies), size)
        text[schema:schema + size] = lies
        path.write_bytes(text)
        done = run(METRICS, str(self.one.pid), str(path), str(self.one.pid))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), len(set(lines)))
        samples = [line.rsplit(" ", 1)[0] for line in lines]
        self.assertEqual(len(samples), len(set(samples)))
        self.assertFalse([line for line in lines if not re.match(r"(# (HELP|TYPE) )?jemalloc_lua_", line)])
        if PROMTOOL:
            done = subprocess.run([PROMTOOL, "check", "metrics"], input=done.stdout, capture_output=True, text=True,
                                  check=False)
            self.assertNotIn("error", done.stdout + done.stderr)

    @unittest.skipUnless(PROMTOOL, "promtool is not installed (tools/setup --all)")
    def test_promtool_finds_nothing(self):
        text = run(METRICS, str(self.one.pid)).stdout
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text + "x{} y\n", capture_output=True, text=True,
                              check=False)
        self.assertNotEqual(done.returncode, 0)


class Damage(WithFolder):
    """Whatever is in a file, a reader takes it or says in one line what is wrong with it."""

    def setUp(self):
        super().setUp()
        host = self.host()
        host.do("make 4")
        host.do("run 2 t = {} for i = 1, 1e5 do t[i] = {i} end")
        host.kill()
        self.whole = (self.folder / str(host.pid)).read_bytes()
        self.schema, self.schema_size = struct.unpack_from("<2I", self.whole, 40)
        self.path = self.folder / "damaged"

    def read(self, text):
        """Whether it is taken; all that is shown can be printed."""
        self.path.write_bytes(text)
        try:
            process = stats_file.StatsFile(self.path).read()
        except stats_file.Unreadable as error:
            self.assertTrue(str(error).isprintable(), str(error))
            self.assertTrue(str(error).startswith(str(self.path)))
            return False
        shown = metrics.text([process]) + "\n".join(self.table().lines())
        self.assertTrue(shown.replace("\n", "").isprintable(), shown)
        return True

    def table(self):
        return top.Table(top.States(stats_file.StatsFile(self.path)))

    def with_words(self, *words):
        """The file with (format, offset, value) written over."""
        text = bytearray(self.whole)
        for kind, offset, value in words:
            struct.pack_into(kind, text, offset, value)
        return bytes(text)

    def with_schema(self, text):
        header = bytearray(self.whole)
        header[self.schema:self.schema + len(text)] = text
        struct.pack_into("<I", header, 44, len(text))
        return bytes(header)

    def test_the_file_as_it_is_can_be_read(self):
        self.assertTrue(self.read(self.whole))
        self.assertTrue(self.read(self.with_words()))

    def test_sizes_that_cannot_be(self):
        for offset in (12, 16, 40, 44):
            for value in (0, 1, 7, 1 << 16, 1 << 30, 2**32 - 1):
                with self.subTest(offset=offset, value=value):
                    self.assertFalse(self.read(self.with_words(("<I", offset, value))))
        for value in (5, 1 << 20, 2**64 - 1):  # records
            self.assertTrue(self.read(self.with_words(("<Q", 96, value))))
            self.assertEqual(len(stats_file.StatsFile(self.path).read().states), 4)
        self.assertFalse(self.read(self.with_words(("<I", 20, 2**32 - 1), ("<Q", 96, 2**64 - 1))))
        for length in (*range(0, 120), self.schema, len(self.whole) // 2):
            self.assertFalse(self.read(self.whole[:length]))

    def test_a_record_that_is_never_done_is_shown_as_it_is(self):
        header = struct.unpack_from("<I", self.whole, 12)[0]
        self.assertTrue(self.read(self.with_words(("<Q", header, 7))))
        self.assertEqual([s.torn for s in stats_file.StatsFile(self.path).read().states], [True, False, False, False])

    def test_two_records_of_one_state_are_one(self):
        header, size = struct.unpack_from("<2I", self.whole, 12)
        self.assertTrue(self.read(self.with_words(("<Q", header + size + 8, 1))))
        self.assertEqual(len(stats_file.StatsFile(self.path).read().states), 3)

    def test_schemas_that_cannot_be(self):
        good = {"name": "live", "unit": "bytes", "kind": "gauge", "offset": 40, "width": 8, "help": "x"}
        self.assertTrue(self.read(self.with_schema(json.dumps({"process": [], "state": [good]}).encode())))
        for change in ({"name": "a\nb"}, {"name": "x" * 100}, {"name": 5}, {"name": ""}, {"unit": "furlong"}, {"unit": []},
                       {"kind": "total"}, {"offset": -8}, {"offset": 1 << 40}, {"offset": 5.5}, {"offset": None},
                       {"offset": True}, {"width": 16}, {"width": 0}, {"help": "x" * 1000}, {"help": None}, {"head": "\x1b[2J"},
                       {"words": 5}, {"words": [5]}, {"words": ["a\n"]}, {"words": ["x"] * 5000}, {"shown": {}, "closed": 1 << 40}, {"more": 1},
                       {"closed": "x"}, {"closed": []}, {"closed": 40}, {"closed": 40, "kind": "counter", "unit": "word"},
                       {"width": 8.0}):
            with self.subTest(change=change):
                text = json.dumps({"process": [], "state": [good | change]}).encode()
                taken = len(text) < 3000 and self.read(self.with_schema(text))
                self.assertFalse(taken)
        for text in (b"", b"[]", b"{}", b"5", b"[" * 3000, b'{"process":5,"state":5}', b'{"process":[5],"state":[]}', b"\xff",
                     json.dumps({"process": [], "state": [good, good]}).encode(), b'{"process":null,"state":{"a":1}}'):
            self.assertFalse(self.read(self.with_schema(text)), text)

    def test_a_help_that_is_no_text_of_unicode(self):
        row = {"name": "x", "unit": "bytes", "kind": "gauge", "offset": 40, "width": 8, "help": "\ud800\x1b\u202e"}
        self.assertTrue(self.read(self.with_schema(json.dumps({"process": [], "state": [row]}).encode())))

    def test_names_of_columns_of_the_tools_own_do_not_confuse_them(self):
        rows = [{"name": name, "unit": "bytes", "kind": "gauge", "offset": 40, "width": 8, "help": "x",
                 "shown": ["states", "processes", "rate"]} for name in ("number", "pid", "program", "file", "states", "state")]
        self.assertTrue(self.read(self.with_schema(json.dumps({"process": rows[:3], "state": rows}).encode())))

    def test_schemas_changed_at_random(self):
        random = Random(12)
        junk = [None, True, -1, 0, 7, 1 << 31, 1 << 64, 1.5, "", "x", "\x1b[2J", "a\nb", "live", "bytes", [], {}, ["x"], [[]],
                {"a": 1}, "\ud800", "number", "pid", "\u202e"]
        taken = 0
        for _ in range(1000):
            schema = json.loads(self.whole[self.schema:self.schema + self.schema_size])
            schema["state"] = random.sample(schema["state"], random.randint(1, 6))
            for _ in range(random.randint(1, 4)):
                row = random.choice(schema["state"] + schema["process"])
                key = random.choice([*row, "head", "words", "shown", "closed", "more"])
                row[key] = random.choice(junk + list(row.values()))
            text = json.dumps(schema).encode()
            taken += len(text) <= self.schema_size and self.read(self.with_schema(text))
        self.assertGreater(taken, 50)
        self.assertLess(taken, 800)

    def test_bytes_changed_at_random(self):
        random = Random(16)
        taken = 0
        for _ in range(1000):
            text = bytearray(self.whole)
            for _ in range(random.choice((1, 2, 8, 100))):
                text[random.randrange(random.choice((120, self.schema + self.schema_size, len(text))))] = random.randrange(256)
            taken += self.read(bytes(text))
        self.assertGreater(taken, 100)
        self.assertLess(taken, 950)


main()
