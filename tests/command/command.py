"""Runs a command as a user does, and says what came of it.

Each test program takes the path of jemalloc-luajit, and that of a luajit to compare with, as its arguments.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from outcome import main, pty_is_missing  # noqa: E402,F401

OURS = sys.argv[1] if len(sys.argv) > 1 else "jemalloc-luajit"
LUAJIT = sys.argv[2] if len(sys.argv) > 2 else ""
KEPT_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")


class Outcome(NamedTuple):
    out: str
    err: str
    code: int


def environment(**more):
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", "TERM": "dumb", **more}


def run(*args, program=OURS, stdin="", cwd=None, **env):
    done = subprocess.run([program, *args], input=stdin, env=environment(**env), cwd=cwd, timeout=120,
                          capture_output=True, text=True, errors="replace", check=False)
    return Outcome(done.stdout, done.stderr, done.returncode)


def nameless(outcome, program):
    """The outcome without what differs from run to run: the program's name, addresses."""
    def clean(text):
        return re.sub(r"0x[0-9a-f]+", "0x?", text.replace(program, "luajit"))
    return Outcome(clean(outcome.out), clean(outcome.err), outcome.code)
