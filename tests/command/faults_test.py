"""tools/faults: programs are found, called as the table says, and judged by it."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from command import OURS, environment, main

TOOL = Path(__file__).resolve().parent.parent.parent / "tools/faults"
PROGRAMS = {
    "library.sh": "true",
    "greets.sh": ". ./library.sh; echo 'peak 20 MB'; echo hello",
    "dies.sh": "kill -SEGV $$",
    "waits.sh": "echo before; sleep 1000",
    "unknown.sh": "echo something",
    "prefix.lua": "print(os.getenv('PREFIX'), ...)",
    "needs_more.sh": "echo unreachable",
}
RIGHT = r"""
[[greets]]
output = ['^hello$', '^peak']
never = ['^bye$']
figures = { 'peak (\d+) MB' = [10, 30] }
[[dies]]
status = 'SIGSEGV'
[[waits]]
status = 'timed out'
seconds = 1
[[prefix]]
run = 'jemalloc-luajit prefix.lua one'
output = ['/prefix\tone$']
[[prefix]]
run = 'jemalloc-luajit prefix.lua two'
output = ['/prefix\ttwo$']
[[needs_more]]
needs = 'false'
"""


class Faults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("programs", "prefix/bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "prefix/bin/jemalloc-luajit").symlink_to(Path(OURS).resolve())
        for name, text in PROGRAMS.items():
            (self.folder / "programs" / name).write_text(text + "\n", encoding="utf-8")

    def run_tool(self, table, *more):
        expected = self.folder / "expected.toml"
        expected.write_text(table, encoding="utf-8")
        return subprocess.run([TOOL, self.folder / "programs", "--prefix", self.folder / "prefix", "--expected", expected,
                               *more], capture_output=True, encoding="utf-8", timeout=200, check=False, env=environment())

    def test_programs_that_end_as_they_should_pass(self):
        done = self.run_tool(RIGHT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^right +greets +exit 0 +hello$")
        self.assertRegex(done.stdout, r"(?m)^right +dies +SIGSEGV")
        self.assertRegex(done.stdout, r"(?m)^right +waits +timed out +before$")
        self.assertRegex(done.stdout, r"(?m)^no expectation +unknown +exit 0 +something$")
        self.assertRegex(done.stdout, r"(?m)^not run +needs_more")
        self.assertNotIn("library", done.stdout)
        self.assertIn("faults: 1 no expectation, 1 not run, 5 right", done.stdout)

    def test_each_part_of_an_expectation_may_fail(self):
        for part, complaint in (("status = 3", "should end with exit 3"),
                                ("output = ['^hell$']", "should print: ^hell$"),
                                ("never = ['^hello$']", "should not print: ^hello$"),
                                (r"figures = { 'peak (\d+) MB' = [0, 19] }", "should be from 0 to 19: 20 in"),
                                (r"figures = { 'low (\d+) MB' = [0, 19] }", "should print: low")):
            with self.subTest(part):
                done = self.run_tool(f"[[greets]]\ncause = 'it was made so'\n{part}\n", "--only", "greets")
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertRegex(done.stdout, r"(?m)^WRONG +greets")
                self.assertIn(complaint, done.stdout)
                self.assertIn("because it was made so", done.stdout)
                self.assertIn("faults: 1 WRONG", done.stdout)

    def test_what_is_wrong_with_the_table_or_the_folder_is_one_line(self):
        for table, more in (("[[greets]]\nstatsu = 3\n", ()), ("[[greets]\n", ()), ("", ("--only", "nothing")),
                            ("", ("--prefix", self.folder))):
            done = self.run_tool(table, *map(os.fspath, more))
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stdout + done.stderr)


if __name__ == "__main__":
    main()
