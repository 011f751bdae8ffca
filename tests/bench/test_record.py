"""`jemalloc-luajit --jemalloc-record FILE` and what tools/replay reads of it."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from outcome import main  # noqa: E402

COMMAND = os.environ["JEMALLOC_LUA_COMMAND"]
REPLAY = os.environ["JEMALLOC_LUA_REPLAY"]
PROGRAM = "local t = {} for i = 1, 2e4 do t[i] = {i, tostring(i)} end "


def run(*arguments):
    return subprocess.run([*arguments], capture_output=True, text=True, timeout=120, check=False)


class Recording(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = str(Path(folder.name) / "program.rec")

    def replay(self):
        done = run(REPLAY, self.file, "--rounds", "1", "--json", "builtin", "front:slab")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def record(self, chunk, *options):
        return run(COMMAND, "--jemalloc-record", self.file, *options, "-e", chunk)

    def test_every_way_to_end_leaves_the_whole_recording(self):
        for end, code in (("", 0), ("error('x', 0)", 1), ("os.exit(3)", 3), ("os.exit(3, true)", 3),
                          ("coroutine.wrap(function() os.exit(3) end)()", 3)):
            with self.subTest(end):
                self.assertEqual(self.record(PROGRAM + end).returncode, code)
                found = self.replay()
                self.assertGreater(found["requests"], 40_000)
                self.assertGreater(found["peak_bytes"], 20_000 * (64 + 16))
                self.assertFalse(found["cut_short"])
                self.assertEqual([each["name"] for each in found["allocators"]], ["builtin", "front:slab", "floor"])

    def test_figures_that_cannot_be_written_are_an_error(self):
        self.record(PROGRAM)
        for options in ([], ["--json"]):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([REPLAY, self.file, "--rounds", "1", *options, "builtin"], stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=120, check=False)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn("cannot write", done.stderr)

    def test_on_every_allocator_and_front_end(self):
        for options in (("--jemalloc-allocator=builtin",), ("--jemalloc-allocator=system",),
                        ("--jemalloc=front:direct",), ("--jemalloc=front:checked",)):
            with self.subTest(options):
                done = self.record(PROGRAM + "print(#t)", *options)
                self.assertEqual((done.stdout, done.stderr, done.returncode), ("20000\n", "", 0))
                self.assertGreater(self.replay()["requests"], 40_000)

    def test_a_killed_program_leaves_what_was_written(self):
        self.assertLess(self.record("local ffi = require 'ffi' ffi.cdef 'int raise(int)' " + PROGRAM * 20 +
                                    "ffi.C.raise(9)").returncode, 0)
        self.assertGreater(self.replay()["requests"], 40_000)

    def test_with_statistics(self):
        for end in ("", "os.exit(0)", "os.exit(0, true)"):
            done = self.record(PROGRAM + end, "--jemalloc-stats=json")
            self.assertGreater(json.loads(done.stderr)["peak"], 20_000 * (64 + 16))
            self.assertFalse(self.replay()["cut_short"])

    def test_the_limit_holds_and_scripts_see_statistics(self):
        done = self.record("print(pcall(string.rep, 'x', 2e7)) local J = require 'jemalloc' "
                           "print(J.buffer('char', 2e7)) print(J.heap.stats().limit, J.heap.stats().refusals > 0)",
                           "--jemalloc=limit:16M")
        self.assertEqual(done.stdout.splitlines(), ["false\tnot enough memory", "nil\t12", "16777216\ttrue"])

    def test_a_file_that_cannot_be_made_is_one_line_and_exit_2(self):
        self.file += "/nothing"
        done = self.record("print(1)")
        self.assertEqual((done.stdout, done.returncode), ("", 2))
        self.assertEqual(done.stderr,
                         f"{COMMAND}: --jemalloc-record: {self.file}: No such file or directory\n")

    def test_a_full_disk_is_told(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        self.file = "/dev/full"
        done = self.record(PROGRAM)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left on device", done.stderr)

    def test_no_file_is_misuse(self):
        for arguments in (("--jemalloc-record",), ("--jemalloc-record=", "-e", "")):
            done = run(COMMAND, *arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn("--jemalloc-record takes the name of a file", done.stderr)


if __name__ == "__main__":
    main()
