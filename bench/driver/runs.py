"""Starting the benchmark programs and reading what they print."""

import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import stats

ROOT = Path(__file__).resolve().parent.parent.parent
WORKLOADS = ROOT / "bench" / "workloads"

SKIPPED = 3  # exit status of lua_run: a peer that is not installed
PROGRAMS = ("lua_run", "replay", "jemalloc_lua_bench")


class Failure(Exception):
    """Something that the user has to know, in one line."""


def program(name, build=None):
    """The path of a program of build/release/bench, built where it is missing; `build` or JEMALLOC_LUA_BENCH name
    another folder."""
    named = build or os.environ.get("JEMALLOC_LUA_BENCH")
    path = Path(named or ROOT / "build" / "release" / "bench") / name
    if not path.exists():
        if named:
            raise Failure(f"{named} has no {name}; the folder to name is build/release/bench of a build")
        build_programs()
    return str(path)


def build_programs():
    print("building the benchmarks; this takes two minutes the first time", file=sys.stderr)
    for command in (
        ["tools/setup"],
        ["cmake", "--preset", "release"],
        ["cmake", "--build", "build/release", "-j", str(os.cpu_count()), "--target", *PROGRAMS],
    ):
        done = subprocess.run(command, cwd=ROOT, check=False, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            raise Failure(f"the benchmarks can't be built: {' '.join(command[:3])} failed, as told above")


def last_line(stderr, status):
    """What a program that failed has to say."""
    lines = stderr.partition("\nstack traceback:")[0].strip().splitlines()
    if status < 0:
        lines.append(f"it was ended by {signal.Signals(-status).name}")
    return lines[-1] if lines else f"exit status {status}"


def call(command, **options):
    """Runs a program; its standard output. A failure is raised with its last line of stderr."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **options)
    if done.returncode != 0:
        name = Path(command[0]).name
        message = last_line(done.stderr, done.returncode).removeprefix(f"{name}: ")
        raise Failure(f"{' '.join([name, *map(str, command[1:])])}: {message}")
    return done.stdout


def keep_input():
    """What to call before each run, so that all find the same on standard input. What comes through a pipe is
    kept in a file for that."""
    try:
        kind = os.fstat(0).st_mode
    except OSError:  # closed
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.set_inheritable(0, True)
        return lambda: None
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        if not select.select([0], [], [], 1)[0]:
            print("waiting for the end of standard input; </dev/null where the program takes none", file=sys.stderr)
        with tempfile.TemporaryFile() as kept, open(0, "rb", closefd=False) as pipe:
            shutil.copyfileobj(pipe, kept)
            kept.seek(0)
            os.dup2(kept.fileno(), 0)
    elif not stat.S_ISREG(kind):  # a terminal, /dev/null
        return lambda: None
    begin = os.lseek(0, 0, os.SEEK_CUR)
    return lambda: os.lseek(0, begin, os.SEEK_SET)


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
    # It comes last, after what the script wrote to the same place.
    begin = output.rfind('{"allocator": ')
    if begin < 0:
        raise Failure(f"{script} ends its process before it can be measured, as by os.exit(); it has to return instead")
    return json.loads(output[begin:])


def available(allocators, build=None):
    """Those that can be used here, and (name, reason) of those that are not installed."""
    usable, skipped = [], []
    probe = WORKLOADS / "binary_trees.lua"
    for name in allocators:
        command = [program("lua_run", build), name, str(probe), "2"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
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
        line = f"{self.done}/{self.total} {what} ({left:.0f} s left)"[: shutil.get_terminal_size().columns - 1]
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def end(self):
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def turns(allocators, rounds, seldom):
    """How many measurements interleave() takes."""
    return sum(min(seldom.get(name, rounds), rounds) for name in allocators)


def interleave(allocators, rounds, measure, progress=None, seldom=None):
    """{allocator: [measure(allocator) of each round]}; every other round in the opposite order. `seldom` has those
    that take part in so many of the rounds only."""
    samples = {name: [] for name in allocators}
    for number in range(rounds):
        for name in allocators if number % 2 == 0 else reversed(allocators):
            if not stats.takes_part(number, min((seldom or {}).get(name, rounds), rounds), rounds):
                continue
            samples[name].append(measure(name))
            if progress:
                progress.step(name)
    return samples
