"""What a limit is worth in resident memory: each runaway program of runaways.lua in a process of its own, on each
front end, and a table of what the processes came to.

    resident.py [--sample] [--limit MIB] [--front NAME] [--program NAME] JEMALLOC-LUAJIT

--sample: with the compiler off all programs on the slab heap and on front:direct; some on the others, and with it on.
Exit status 1 where a program made its process grow by 2 MiB more than the limit, or ended in another error than
"not enough memory". That LuaJITs of 2022 and 2023 may crash where compiled code is refused memory, on any allocator,
is told but not counted.

Columns, in KiB: the peak of the heap's footprint; by how much the process's resident memory grew at most (VmHWM less
what VmRSS was before the program ran), and how that compares with the limit; VmHWM itself, in which the process is too.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ALLOWED = 2048  # KiB above the limit
FRONTS = {"slab": "front:slab", "harden": "front:slab,harden:true", "direct": "front:direct",
          "checked": "front:checked"}
# For each way in which memory is asked for, one.
FEW = ("tables", "strings", "closures", "userdata", "deep coroutines", "even sizes", "concat", "gaps", "to the brim")
PR_SET_THP_DISABLE = 41
LIBC = ctypes.CDLL(None, use_errno=True)


class Result(NamedTuple):
    before: int
    highest: int
    heap: int
    error: str


def no_huge_pages():
    """Where the system gives them to all who don't ask, memory next to what is used is resident as well."""
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def lua(command, *args):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JEMALLOC", "LUA_"))}
    done = subprocess.run([*command, *args], env=environment, capture_output=True, text=True, check=False,
                          preexec_fn=no_huge_pages)
    if done.returncode == -signal.SIGSEGV and "-jon" in command:
        return ""
    if done.returncode != 0:
        raise RuntimeError(f"{args[-1]}: exit status {done.returncode}, {done.stderr.strip()}")
    return done.stdout


def run(command, script, name):
    """None where LuaJIT crashed."""
    line = lua(command, script, name)
    if not line:
        return None
    before, highest, heap, error = line.rstrip("\n").split("\t")
    return Result(int(before), int(highest), int(heap) >> 10, error)


def in_sample(front, jit, program):
    if jit == "on":
        return front == "slab" and program in FEW
    return front in ("slab", "direct") or program in FEW


def cases(options, programs):
    for front in [options.front] if options.front else FRONTS:
        for jit in ("off", "on"):
            for program in [options.program] if options.program else programs:
                if not options.sample or in_sample(front, jit, program):
                    yield front, jit, program


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"limits: {message}\n")


def main():
    parser = Parser(add_help=False)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--front", choices=FRONTS)
    parser.add_argument("--program")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    script = str(Path(__file__).with_name("runaways.lua"))
    programs = lua(options.command, script).splitlines()
    if options.program and options.program not in programs:
        parser.error(f"no program '{options.program}'; there are {', '.join(programs)}")

    print(f"limit {options.limit << 10} KiB\n")
    print(f"{'front':8} {'jit':3} {'program':16} {'heap':>8} {'growth':>8} {'to limit':>8} {'process':>8}")
    worst, bad, crashes = 0, 0, 0
    for front, jit, name in cases(options, programs):
        conf = f"limit:{options.limit}M,{FRONTS[front]}"
        result = run([*options.command, "--jemalloc", conf, f"-j{jit}"], script, name)
        if result is None:
            crashes += 1
            print(f"{front:8} {jit:3} {name:16} LuaJIT crashed in compiled code", flush=True)
            continue
        growth = result.highest - result.before
        over = growth - (options.limit << 10)
        worst = max(worst, over)
        wrong = []
        if over >= ALLOWED:
            wrong.append("too much")
        if not result.error.endswith("not enough memory"):
            wrong.append(result.error)
        bad += bool(wrong)
        print(f"{front:8} {jit:3} {name:16} {result.heap:8} {growth:8} {over:+8} {result.highest:8}",
              "".join("  " + what for what in wrong), flush=True)
    print(f"\nat most {worst} KiB above the limit, {ALLOWED} allowed; wrong: {bad}; crashes of LuaJIT's: {crashes}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
