"""Command lines: what is wrong with one is said in one line."""

import argparse
import sys


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
