"""Reads the files that JEMALLOC_LUA_CONF=stats_file:PATH makes, and finds those of running processes.

The layout stands in alloc/observe/live_file.h: a header, and a record for each state. A record's first word is odd
while its owner writes it, and another afterwards, so a copy between two readings of the same even number is
whole. What later versions add stands behind what is known here.
"""

import mmap
import os
import stat
import struct
import sys
import time
from dataclasses import dataclass

MAGIC = b"JLuaStat"
VERSION = 1
UNKNOWN = 2**64 - 1
FRONTS = ("slab", "direct", "checked")
TRIES = 200  # until a record is taken as it is: its owner may have been killed while it wrote

HEADER = struct.Struct("<8s4I2Q32s7Q")
RECORD = struct.Struct("<15Q")
WORD = struct.Struct("<Q")


class Unreadable(Exception):
    """A line that says what can't be read, and why."""


def write_out(name, text):
    """Prints text, and ends the tool `name` with one line where that can't be done."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # not tried again at exit
        if isinstance(error, BrokenPipeError):  # who read it has seen enough
            sys.exit(141)
        sys.exit(f"{name}: standard output: {error.strerror}")


@dataclass
class State:
    number: int
    made: float  # seconds since 1970
    live: int | None  # None: not known
    footprint: int
    peak: int
    limit: int  # 0: none, as the next one
    soft_limit: int
    requests: int
    refusals: int
    gc_pushes: int
    purged: int
    arena: int
    front: str
    fallbacks: int
    torn: bool  # its words may not belong together


@dataclass
class Process:
    pid: int
    program: str
    file: str
    made: int
    ended: int
    unlisted: int
    ended_requests: int
    ended_refusals: int
    ended_purged: int
    states: list[State]

    def total(self, name):
        return sum(getattr(state, name) or 0 for state in self.states)


class StatsFile:
    """An open file; it can be read again and again, also when it has been removed meanwhile."""

    def __init__(self, path):
        self.path = str(path)
        try:
            with open(self.path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Unreadable(f"{self.path}: no regular file")
                self.size = os.fstat(file.fileno()).st_size
                begins = file.read(len(MAGIC))
                if begins != MAGIC or self.size < HEADER.size:
                    raise Unreadable(f"{self.path}: no file of jemalloc_lua's statistics")
                self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise Unreadable(f"{self.path}: {error.strerror}") from error
        _, version, self.header_size, self.record_size, *_ = HEADER.unpack_from(self.bytes)
        if version != VERSION:
            raise Unreadable(f"{self.path}: its version is {version}, and this tool reads {VERSION}")
        if self.header_size < HEADER.size or self.record_size < RECORD.size:
            raise Unreadable(f"{self.path}: damaged: its header tells sizes that can't be")

    def word(self, offset):
        return WORD.unpack_from(self.bytes, offset)[0]

    def record(self, offset):
        """The words of a record, and whether they may not belong together."""
        for _ in range(TRIES):
            sequence = self.word(offset)
            words = RECORD.unpack_from(self.bytes, offset)
            if sequence % 2 == 0 and self.word(offset) == sequence:
                return words, False
            time.sleep(0)
        return words, True

    def read(self):
        (_, _, _, _, most, pid, _, program, records, made, ended, unlisted, requests, refusals,
         purged) = HEADER.unpack_from(self.bytes)
        records = min(records, most, (self.size - self.header_size) // self.record_size)
        states = []
        for index in range(records):
            words, torn = self.record(self.header_size + index * self.record_size)
            (_, number, made_ns, live, footprint, peak, limit, soft_limit, asked, refused, pushes, given, arena,
             front, fallbacks) = words
            if number != 0:
                states.append(State(number, made_ns / 1e9, None if live == UNKNOWN else live, footprint, peak, limit,
                                    soft_limit, asked, refused, pushes, given, arena,
                                    FRONTS[front] if front < len(FRONTS) else "?", fallbacks, torn))
        return Process(pid, program.split(b"\0")[0].decode(errors="replace"), self.path, made, ended, unlisted,
                       requests, refusals, purged, states)


def mapped_files(pid):
    """Files that a process shares by a writable mapping: pairs of path and inode."""
    found = {}
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and fields[1] == "rw-s" and fields[5].startswith("/"):
                found[fields[5].replace("\\012", "\n")] = int(fields[4])
    return found.items()


def file_of(pid):
    """The open file of a running process; None where it has none."""
    for path, inode in mapped_files(pid):
        for seen_from_here in (path, f"/proc/{pid}/root{path}"):  # that of a container has another root
            try:
                there = os.stat(seen_from_here)
                if there.st_ino == inode and stat.S_ISREG(there.st_mode):
                    return StatsFile(seen_from_here)
            except (OSError, Unreadable):
                continue
    return None


def open_file(pid_or_path):
    """The file that a command line names, by the id of its process or by its path."""
    if not pid_or_path.isdecimal():
        return StatsFile(pid_or_path)
    try:
        found = file_of(int(pid_or_path))
    except FileNotFoundError:
        raise Unreadable(f"{pid_or_path}: there is no such process; a file of this name is ./{pid_or_path}") from None
    except PermissionError:
        raise Unreadable(f"{pid_or_path}: this process is another user's; give the path of its file") from None
    except ProcessLookupError:
        raise Unreadable(f"{pid_or_path}: this process has just ended") from None
    if found is None:
        raise Unreadable(f"{pid_or_path}: this process has no file of statistics, or has made no state yet; it makes "
                         f"one when it is started with JEMALLOC_LUA_CONF=stats_file:/tmp/%p.stats")
    return found


def all_files():
    """The open files of all processes whose mappings we may read, in the order of their ids."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            found = file_of(pid)
        except OSError:
            continue
        if found is not None:
            yield pid, found
