"""The comparison that tools/run prints: all allocators, one result, a table that fits a terminal."""

import os
import re
import stat
import subprocess
import tempfile
import unittest

from command import OURS, environment, main

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "demo", "run")
TEXT = "The quick brown fox jumps over the lazy dog.\nIt's a dog's life, said the fox: 1 + 1 = \"2\".\n" * 20


class Demo(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.text = self.write("text", TEXT)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run_demo(self, *args, command=OURS):
        return subprocess.run([DEMO, command, *args], capture_output=True, encoding="utf-8", timeout=240,
                              check=False, env=environment())

    def test_a_row_for_each_allocator(self):
        done = self.run_demo("--rounds", "1", "--passes", "1", "--text", self.text)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("built-in", "system", "front:slab", "front:direct", "front:checked"):
            self.assertRegex(done.stdout, rf"(?m)^{re.escape(name)} +\d+ +\d+ +\d+\.\d\d +\d+\.\d\d ")
        self.assertIn("All results agree", done.stdout)
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)

    def test_plain_lines_where_there_is_no_terminal(self):
        done = self.run_demo("--rounds", "2", "--passes", "1", "--text", self.text)
        self.assertEqual(done.stderr, "round 1 of 2, 5 allocators\nround 2 of 2, 5 allocators\n")
        self.assertNotIn("\x1b", done.stdout)

    def wrapper(self, system_case):
        """A command that does something else on the system's allocator."""
        path = self.write("wrapper", "#!/bin/sh\n"
                          f"case \"$*\" in *'allocator system'*) {system_case} ;; esac\n"
                          f"exec '{OURS}' \"$@\"\n")
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def test_a_result_that_differs_is_an_error(self):
        other = self.wrapper("echo '{\"checksum\":\"00000000\",\"seconds\":1}'; exit 0")
        done = self.run_demo("--rounds", "1", "--passes", "1", "--text", self.text, command=other)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.splitlines()[-1], r"^demo: results differ: .* to 00000000 on system$")

    def test_a_run_that_fails_is_an_error(self):
        other = self.wrapper("echo 'no luck' >&2; exit 3")
        done = self.run_demo("--rounds", "1", "--passes", "1", "--text", self.text, command=other)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.splitlines()[-1], "demo: system: the job failed (exit 3): no luck")

    def test_misuse_is_one_line_and_exit_2(self):
        for args in (["--rounds", "many"], ["--rounds", "0"], ["--text"], ["text"]):
            done = self.run_demo(*args)
            self.assertEqual((done.stdout, done.returncode), ("", 2), args)
            self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_a_text_that_is_not_there(self):
        for path, why in (("/no/such/file", "No such file or directory"), (self.folder, "Is a directory")):
            done = self.run_demo("--text", path)
            self.assertEqual((done.stderr, done.returncode), (f"demo: cannot read {path}: {why}\n", 1))


if __name__ == "__main__":
    main()
