"""Command lines: what is wrong with one, or with what it names, is said in one line."""

import argparse
import os
import sys

from .runs import Failure


class Parser(argparse.ArgumentParser):
    def __init__(self, description):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        print(f"{self.prog}: {message}; {self.prog} --help tells what it takes", file=sys.stderr)
        sys.exit(2)


def at_least(least):
    """A whole number from `least` up."""
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not valid; it takes a number of at least {least}")
        return int(text)
    return parse


def run(main):
    """Runs a tool's main(), to the end of the process."""
    name = os.path.basename(sys.argv[0])
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except Failure as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written is not tried again at exit
        if isinstance(error, BrokenPipeError):  # who read the output has seen enough
            sys.exit(141)
        print(f"{name}: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
