"""Running hosts with and without the shim, and asking the system about them."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WITH_JEMALLOC = str(ROOT / "tools" / "with-jemalloc")
SHIM = os.environ.get("JEMALLOC_LUA_PRELOAD", "")
HOSTS = Path(os.environ.get("PRELOAD_HOSTS", "."))

SKIPPED = 77  # exit status that ctest takes for "skipped"


def environment(**more):
    """The environment without what the user has set for this library."""
    clean = {key: value for key, value in os.environ.items() if key != "JEMALLOC_LUA_CONF"}
    return clean | more


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120,
                          env=environment(), **options)


def under_shim(*command, options=(), **more):
    return run(WITH_JEMALLOC, *options, "--", *command, **more)


def resident(pid):
    """Resident memory of a process in MiB."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def need(reason, present):
    """Ends the test program as skipped, by name, where its host is missing."""
    if not present:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)


def main():
    unittest.main(verbosity=2)
