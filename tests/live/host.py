"""Drives the host of these tests, and reads its file of statistics with the tools' own reader."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "tests"))
sys.dont_write_bytecode = True

import stats_file  # noqa: E402
from outcome import main, pty_is_missing  # noqa: E402,F401

HOST = os.environ.get("LIVE_HOST", "")
TOP = str(ROOT / "tools" / "top")
METRICS = str(ROOT / "tools" / "metrics")


class Host:
    """A running host; `errors` holds its stderr when it has ended."""

    def __init__(self, conf, folder=None, name=HOST):
        clean = {name: value for name, value in os.environ.items() if name != "JEMALLOC_LUA_CONF"}
        self.process = subprocess.Popen([name], executable=HOST, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, cwd=folder,
                                        env=clean | {"JEMALLOC_LUA_CONF": conf})
        self.pid = self.process.pid
        self.errors = ""

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().rstrip("\n")

    def do(self, line):
        """Has a line done; the answer, which is "ok" where nothing went wrong."""
        self.tell(line)
        return self.answer()

    def end(self, how=None):
        """Ends the host: by a line, or as its input ends."""
        if how is not None:
            self.tell(how)
        _, self.errors = self.process.communicate(timeout=120)
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.communicate()


class WithFolder(unittest.TestCase):
    def setUp(self):
        self.hosts = []
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="jemalloc_lua-live-")))

    def tearDown(self):
        for host in self.hosts:
            host.kill()

    def host(self, conf=None, **more):
        host = Host(conf or f"stats_file:{self.folder}/%p", **more)
        self.hosts.append(host)
        return host

    def file(self, pid):
        return stats_file.StatsFile(self.folder / str(pid))

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())
