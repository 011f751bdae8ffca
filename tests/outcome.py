"""Runs a file's tests. A file of which tests were skipped counts as skipped (exit 77), and says which and why."""

import os
import pty
import sys
import unittest

SKIPPED = 77  # exit status that ctest takes for "skipped"


def pty_is_missing():
    """Why there is no pseudo-terminal to be had, or None: a container may have no devices for them."""
    try:
        for side in pty.openpty():
            os.close(side)
    except OSError as error:
        return f"no pseudo-terminal: {error}"
    return None


def main():
    done = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
    for test, reason in done.skipped:
        print(f"skipped: {test.id().removeprefix('__main__.')}: {reason}", file=sys.stderr)
    sys.exit(1 if not done.wasSuccessful() else SKIPPED if done.skipped else 0)
