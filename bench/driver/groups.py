"""Measuring: each group of benchmarks, interleaved, into the form of results.py."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from . import results, runs


def lua(found, names, allocators, rounds, build, quick, seldom):
    """Whole programs, each run in a fresh process; quick ones at the workload's medium size."""
    progress = runs.Progress(len(names) * runs.turns(allocators, rounds, seldom))
    for name in names:
        script = f"@{name}" if quick else runs.WORKLOADS / f"{name}.lua"
        samples = runs.interleave(
            allocators, rounds, lambda allocator, path=script: runs.run_lua(allocator, path, build=build),
            progress, seldom
        )
        answers = {run["result"] for series in samples.values() for run in series}
        if len(answers) != 1:
            raise runs.Failure(f"{name}: allocators disagree on the result: {sorted(answers)}")
        for allocator, series in samples.items():
            for run in series:
                results.add(
                    found, "lua", name, allocator,
                    time=run["wall_s"],
                    cpu=run["user_s"] + run["system_s"],
                    system=run["system_s"],
                    faults=run["faults"],
                    peak=run["peak_resident"],
                    end=run["resident_at_end"],
                )
    progress.end()


def trace(found, names, allocators, rounds, build, processes):
    """Recordings of the workloads, replayed in warm heaps; times are per request. And what part of the program's
    time the built-in allocator takes, net of the floor: "share"."""
    progress = runs.Progress(len(names))
    for name in names:
        parts = [replay(f"@{name}", allocators, part, build) for part in in_parts(rounds, processes)]
        program = min(runs.run_lua("builtin", f"@{name}", build=build)["wall_s"] for _ in range(3))
        for series in (series for part in parts for series in part["allocators"]):
            for ns in series["ns"]:
                results.add(
                    found, "trace", name, series["name"],
                    time=ns * 1e-9, cold=series["cold_ns"] * 1e-9, cold_faults=series["cold_faults"],
                )
        case = found["trace"][name]
        if "builtin" in case:
            net = min(case["builtin"]["time"]) - min(case["floor"]["time"])
            results.add(found, "trace", name, "builtin", share=net * parts[0]["requests"] / program)
        progress.step(f"trace/{name}")
    progress.end()


def replay(recording, allocators, rounds, build=None):
    """What `replay --json` prints."""
    command = [runs.program("replay", build), recording, "--rounds", str(rounds), "--json", *allocators]
    return json.loads(runs.call(command))


def in_parts(rounds, processes):
    """The rounds of each of these processes: what differs from one to the next, where memory lies above all, is noise
    as well."""
    return [part for i in range(processes) if (part := (rounds + processes - 1 - i) // processes) > 0]


def google(found, pattern, allocators, repetitions, build, seldom=(), processes=2, min_time=0.01):
    """Cases of the Google Benchmark suites, repeated and interleaved at random; of `seldom` in one process only."""
    for number, part in enumerate(in_parts(repetitions, processes)):
        names = [name for name in allocators if number == 0 or name not in seldom]
        google_once(found, pattern, names, part, build, min_time)


def google_once(found, pattern, allocators, repetitions, build, min_time):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.json"
        runs.call([
            runs.program("jemalloc_lua_bench", build),
            "--allocators=" + ";".join(allocators),
            f"--benchmark_filter={pattern}",
            f"--benchmark_repetitions={repetitions}",
            f"--benchmark_min_time={min_time}",
            "--benchmark_enable_random_interleaving=true",
            f"--benchmark_out={output}",
            "--benchmark_out_format=json",
        ])
        if output.exists() and output.stat().st_size > 0:
            results.extend(found, results.from_google(json.loads(output.read_text(encoding="utf-8"))))


def timeline(found, name, allocators, build, interval=0.005):
    """Resident memory of one run of a workload over time: pairs of seconds and bytes, sampled from outside."""
    page = 4096
    for allocator in allocators:
        command = [runs.program("lua_run", build), allocator, str(runs.WORKLOADS / f"{name}.lua")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            start = time.monotonic()
            while process.poll() is None:
                statm = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()
                if len(statm) > 1 and int(statm[1]) > 0:
                    results.add(
                        found, "timeline", name, allocator,
                        at=time.monotonic() - start, resident=int(statm[1]) * page,
                    )
                time.sleep(interval)
