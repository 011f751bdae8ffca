"""The one form of all figures: group -> case -> allocator -> series name -> samples, one for each round.

The series "time" is in seconds (per batch, per run, per replay: the case says what), other series are bytes or
counts. Kept as JSON, so that tools/report can draw what tools/bench measured.
"""

import json
import re
from pathlib import Path

from .runs import Failure

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
# Fields of Google Benchmark's records that are no counters of ours.
FIELDS = {
    "name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions",
    "repetition_index", "threads", "iterations", "real_time", "cpu_time", "time_unit", "error_occurred",
    "error_message",
}
SUFFIXES = re.compile(r"(/(min_time:[\d.]+|iterations:\d+|repeats:\d+|real_time|manual_time))+$")


def add(results, group, case, allocator, **series):
    """Adds one sample to each of these series."""
    place = results.setdefault(group, {}).setdefault(case, {}).setdefault(allocator, {})
    for name, sample in series.items():
        place.setdefault(name, []).append(sample)


def from_google(report):
    """Google Benchmark's JSON in our form; a benchmark's name is group/case/allocator."""
    results = {}
    # In the order of registration: interleaved runs are reported in any order.
    for record in sorted(report["benchmarks"], key=lambda record: record.get("family_index", 0)):
        if record.get("run_type") == "aggregate":
            continue
        full = record.get("run_name", record["name"])
        if record.get("error_occurred"):
            raise Failure(f"{full}: {record['error_message']}")
        group, _, rest = SUFFIXES.sub("", full).partition("/")
        case, _, allocator = rest.rpartition("/")
        # Processor time where one thread does the work; what the case itself timed, or the clock, elsewhere.
        own_clock = "manual_time" in full or "real_time" in full
        time = record["real_time" if own_clock else "cpu_time"] * UNITS[record["time_unit"]]
        counters = {name: value for name, value in record.items() if name not in FIELDS}
        add(results, group, case, allocator, time=time, **counters)
    return results


def merge(results, more):
    for group, cases in more.items():
        for case, allocators in cases.items():
            results.setdefault(group, {}).setdefault(case, {}).update(allocators)


def extend(results, more):
    """Adds the samples of further rounds."""
    for group, cases in more.items():
        for case, allocators in cases.items():
            for allocator, series in allocators.items():
                place = results.setdefault(group, {}).setdefault(case, {}).setdefault(allocator, {})
                for name, samples in series.items():
                    place.setdefault(name, []).extend(samples)


def save(results, path):
    Path(path).write_text(json.dumps({"jemalloc_lua": 1, "results": results}, indent=1) + "\n", encoding="utf-8")


def load(path):
    """Results that were saved, or Google Benchmark's JSON."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except ValueError:
        raise Failure(f"{path}: not JSON") from None
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        return content["results"]
    if isinstance(content, dict) and isinstance(content.get("benchmarks"), list):
        return from_google(content)
    raise Failure(f"{path}: neither results of tools/bench nor JSON of Google Benchmark")
