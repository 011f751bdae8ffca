"""Starting the benchmark programs and reading what they print."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORKLOADS = ROOT / "bench" / "workloads"

SKIPPED = 3  # exit status of lua_run: a peer that is not installed


class Failure(Exception):
    """Something that the user has to know, in one line."""


def program(name, build=None):
    """The path of a program of build/<preset>/bench; `build` or JEMALLOC_LUA_BENCH name another folder."""
    folders = [build or os.environ.get("JEMALLOC_LUA_BENCH")]
    if not folders[0]:
        folders = [ROOT / "build" / preset / "bench" for preset in ("release", "debug")]
    for folder in folders:
        path = Path(folder) / name
        if path.exists():
            return str(path)
    raise Failure(f"{name} is not built: run ./tools/build first, or name the folder with --build")


def call(command, **options):
    """Runs a program; its standard output. A failure is raised with its last line of stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        message = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Failure(f"{' '.join(map(str, command))}: {message[-1]}")
    return done.stdout


def workloads(pattern="."):
    """Names of the workloads that match."""
    names = sorted(path.stem for path in WORKLOADS.glob("*.lua"))
    try:
        return [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise Failure(f"--filter takes a regular expression: {error}") from None


def run_lua(allocator, script, arguments=(), build=None):
    """One run of a script in a fresh process: what lua_run printed."""
    output = call([program("lua_run", build), allocator, str(script), *map(str, arguments)])
    return json.loads(output.splitlines()[-1])


def available(allocators, build=None):
    """Those that can be used here, and (name, reason) of those that are not installed."""
    usable, skipped = [], []
    probe = WORKLOADS / "binary_trees.lua"
    for name in allocators:
        command = [program("lua_run", build), name, str(probe), "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            usable.append(name)
            continue
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("lua_run: ")
        if done.returncode != SKIPPED:
            raise Failure(reason)
        skipped.append((name, reason))
    return usable, skipped


class Progress:
    """A line on a terminal that says what is being done and how long it will still take."""

    def __init__(self, total):
        self.total, self.done = total, 0
        self.start = time.monotonic()
        self.live = sys.stderr.isatty()

    def step(self, what):
        self.done += 1
        if not self.live:
            return
        taken = time.monotonic() - self.start
        left = taken / self.done * max(self.total - self.done, 0)
        print(f"\r\x1b[K{self.done}/{self.total} {what} ({left:.0f} s left)", end="", file=sys.stderr, flush=True)

    def end(self):
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def interleave(allocators, rounds, measure, progress=None):
    """{allocator: [measure(allocator) of each round]}; every other round in the opposite order."""
    samples = {name: [] for name in allocators}
    for number in range(rounds):
        for name in allocators if number % 2 == 0 else reversed(allocators):
            samples[name].append(measure(name))
            if progress:
                progress.step(name)
    return samples
