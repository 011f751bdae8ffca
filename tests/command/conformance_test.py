"""tools/conformance: a suite whose tests come out the same passes; one test that differs is named."""

import os
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from command import LUAJIT, OURS, environment, main

TOOL = Path(__file__).resolve().parent.parent.parent / "tools/conformance"
SUITE = {
    "address.lua": "print({}, print)",
    "fails.lua": "error('as it should')",
    "sub/uses_neighbour.lua": "print(require('neighbour'))",
    "sub/neighbour.lua": "return 'found'",
    "children.t": "print(io.popen('luajit -e \"print(41 + 1)\"'):read('*a'))",
    "time.lua": "print('took ' .. os.clock() .. ' sec')",
    "varies.lua": "print(io.open('/proc/self/stat'):read('*a'))",
}


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            pass  # it has ended meanwhile


@unittest.skipUnless(LUAJIT, "no luajit to compare with")
class Conformance(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def suite(self, **tests):
        for name, text in {**SUITE, **{f"{name}.lua": text for name, text in tests.items()}}.items():
            path = self.folder / "suite" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        return self.folder / "suite"

    def compare(self, suite, *more, ours=OURS):
        return subprocess.run([TOOL, suite, "--ours", ours, "--stock", LUAJIT, *more], capture_output=True,
                              encoding="utf-8", timeout=200, check=False, env=environment())

    def test_a_suite_without_differences_passes(self):
        done = self.compare(self.suite())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("7 tests, 0 differ; 6 the same, 1 the same by exit status; 6 exit 0", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^varies.lua: output varies under luajit itself")

    def test_what_differs_is_named_and_shown(self):
        done = self.compare(self.suite(module="print(package.preload.jemalloc ~= nil)"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^module.lua: DIFFERS\n.*line 1: luajit +false\n.*jemalloc-luajit true")
        self.assertIn("8 tests, 1 differ", done.stdout)

    def test_a_crash_of_one_side_is_a_difference(self):
        script = self.folder / "crashes"
        script.write_text(f"#!/bin/sh\ncase $1 in address.lua) kill -SEGV $$ ;; esac\nexec {LUAJIT} \"$@\"\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        done = self.compare(self.suite(), ours=script)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^address.lua: DIFFERS\n +exit status: luajit 0, jemalloc-luajit -11")

    def test_options_of_the_heap_are_passed_on(self):
        done = self.compare(self.suite(front="local J = package.preload.jemalloc and require 'jemalloc'\n"
                                             "print(J and J.heap.stats().front)"), "--conf", "front:direct")
        self.assertIn("jemalloc-luajit direct", done.stdout)

    def test_it_ends_with_its_tests(self):
        name = f"forever_{os.getpid()}"
        started = self.folder / "started"
        suite = self.suite(**{name: f"io.open('{started}', 'w'):close() while true do end"})
        with subprocess.Popen([TOOL, suite, "--ours", OURS, "--stock", LUAJIT], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, encoding="utf-8", env=environment()) as tool:
            while not started.exists() and tool.poll() is None:
                time.sleep(0.01)
            tool.terminate()
            _, err = tool.communicate(timeout=100)
        self.assertEqual((tool.returncode, err), (143, ""))
        self.assertEqual([], [line for line in command_lines() if name.encode() in line])

    def test_an_empty_folder_is_refused(self):
        done = self.compare(self.folder)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))


if __name__ == "__main__":
    if not LUAJIT:
        sys.exit(77)
    os.environ.pop("JEMALLOC_LUA_CONF", None)
    main()
