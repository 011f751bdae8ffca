"""Reads the live statistics of processes that run with JEMALLOC_LUA_CONF=stats_file:PATH.

The layout stands in alloc/observe/live_file.h. The present numbers are in memory that a process shares by a file
descriptor; a copy is in the file at PATH. Both carry a schema, so no statistic is named here.

Both belong to a process that may be hostile, or to no process any more. Nothing in them is believed: sizes have bounds,
a process is known by its id and the time of its start, and texts are escaped before they are shown.
"""

import json
import os
import re
import stat
import struct
import sys
import time
from dataclasses import dataclass, field

MAGIC = b"JLuaStat"
VERSION = 2
LINK = "/memfd:jemalloc_lua (deleted)"
TRIES = 200  # until a record is taken as it is: its owner may have been killed while it wrote

HEADER = struct.Struct("<8s4I2Q4I32sQQ")
RECORD = struct.Struct("<2Q")  # sequence, number of the state
UNITS = ("bytes", "number", "index", "word", "words", "nanoseconds")
KINDS = ("gauge", "bound", "counter")
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
HEAD = re.compile(r"[a-z_]{0,12}(\[[a-z]\][a-z_]{0,12})?")

# What a header may ask for.
MOST_HEADER, MOST_RECORD, MOST_RECORDS, MOST_VALUES, MOST_FILES = 1 << 16, 1 << 12, 1 << 16, 200, 1 << 16


class Unreadable(Exception):
    """A line that says what can't be read, and why."""


def printable(text):
    """Text that does nothing to a terminal or a line: all else is escaped."""
    def escaped(c):
        if "\udc80" <= c <= "\udcff":  # a byte that is not UTF-8
            return f"\\x{ord(c) - 0xdc00:02x}"
        return c.encode("unicode_escape").decode("ascii")
    return "".join(c if c.isprintable() else escaped(c) for c in text)


def write_out(name, text):
    """Prints text, and ends the tool `name` with one line where that can't be done."""
    try:
        sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # not tried again at exit
        if isinstance(error, BrokenPipeError):  # who read it has seen enough
            sys.exit(141)
        sys.exit(f"{name}: standard output: {error.strerror}")


@dataclass(frozen=True)
class Value:
    """A row of a schema: what a value is, and where it is."""

    name: str
    unit: str
    kind: str
    offset: int
    width: int
    help: str
    closed: int | None = None  # of a counter: where the sum over closed states is, in the header
    head: str = ""
    shown: tuple = ()
    words: tuple = ()

    @classmethod
    def of(cls, row, size, header_size):
        """A row of JSON, or ValueError. The value lies in `size` bytes."""
        value = cls(**row | {name: tuple(row.get(name, ())) for name in ("shown", "words")})
        texts = (value.name, value.unit, value.kind, value.help, value.head, *value.shown, *value.words)
        if not all(isinstance(text, str) and len(text) <= 200 for text in texts) or len(texts) > MOST_VALUES:
            raise ValueError("texts")
        if not all(map(NAME.fullmatch, (value.name, *value.words))) or not HEAD.fullmatch(value.head):
            raise ValueError("a name")
        if value.unit not in UNITS or value.kind not in KINDS or value.width not in (4, 8):
            raise ValueError("a unit, kind or width")
        for offset, end in ((value.offset, size), (0 if value.closed is None else value.closed, header_size)):
            if type(offset) is not int or type(value.width) is not int or not 0 <= offset <= end - value.width:
                raise ValueError("an offset")
        if value.closed is not None and (value.kind != "counter" or value.unit not in ("bytes", "number")):
            raise ValueError("a sum")
        return value

    def get(self, data, offset=None):
        """The value in the bytes of a record or a header; None where it is not known."""
        offset = self.offset if offset is None else offset
        number = int.from_bytes(data[offset:offset + self.width], "little")
        if self.unit == "word":
            return self.words[number] if number < len(self.words) else "unknown"
        if self.unit == "nanoseconds":
            return number / 1e9
        return None if number == 256 ** self.width - 1 else number


class ByName:
    """Something whose values are attributes too."""

    values: dict

    def __getattr__(self, name):
        if name != "values" and name in self.values:
            return self.values[name]
        raise AttributeError(name)


@dataclass
class State(ByName):
    number: int
    torn: bool  # its words may not belong together
    values: dict


@dataclass
class Process(ByName):
    pid: int
    program: str
    file: str
    runs: bool  # false: it has ended, or can't be seen from here
    age: float | None  # seconds since its numbers were copied; None: they are those of now
    values: dict
    closed: dict  # by counter, the sum over closed states
    states: list[State] = field(repr=False)
    schema: "Schema" = field(repr=False)

    def total(self, name):
        """The sum over the open states, and over closed ones where that means something."""
        return sum(state.values.get(name) or 0 for state in self.states) + self.closed.get(name, 0)


class Schema:
    """What the values of a process and of its states are."""

    def __init__(self, text, header_size, record_size):
        try:
            lists = json.loads(text.decode("utf-8"))
            self.process = [Value.of(row, header_size, header_size) for row in lists["process"][:MOST_VALUES]]
            self.state = [Value.of(row, record_size, header_size) for row in lists["state"][:MOST_VALUES]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("its schema can't be understood") from error
        for values in (self.process, self.state):
            if len({value.name for value in values}) != len(values):
                raise ValueError("its schema names a value twice")

    def shown(self, where):
        """The values that a table has columns for: indices first, rates last."""
        values = [value for value in self.state if where in value.shown and value.unit not in ("word", "words")]
        return sorted(values, key=lambda value: ("rate" in value.shown, value.unit != "index"))


class Source:
    """An open file or shared memory, whose owner may change it at any time."""

    def __init__(self, file, name):
        self.file, self.name = file, name
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Unreadable(f"{name}: no regular file")
            begins = os.pread(file, HEADER.size, 0)
            if begins[:len(MAGIC)] != MAGIC or len(begins) < HEADER.size:
                raise Unreadable(f"{name}: no file of jemalloc_lua's statistics")
            (_, version, self.header_size, self.record_size, self.most, self.process, self.started, schema, schema_size,
             self.path, _, program, _, _) = HEADER.unpack(begins)
            if version != VERSION:
                raise Unreadable(f"{name}: its version is {version}, and this tool reads {VERSION}")
            if not (HEADER.size <= self.header_size <= MOST_HEADER and RECORD.size <= self.record_size <= MOST_RECORD
                    and self.most <= MOST_RECORDS and schema + schema_size <= self.header_size):
                raise Unreadable(f"{name}: damaged: its header tells sizes that can't be")
            self.program = printable(program.split(b"\0")[0].decode("utf-8", "surrogateescape"))
            header = self.pread(self.header_size, 0)
            self.schema = Schema(header[schema:schema + schema_size], self.header_size, self.record_size)
            self.path = printable(os.fsdecode(header[self.path:].split(b"\0")[0]))
        except ValueError as error:
            raise Unreadable(f"{name}: damaged: {error}") from error
        except OSError as error:
            raise Unreadable(f"{name}: {error.strerror}") from error

    def __del__(self):
        os.close(self.file)

    def pread(self, size, offset):
        """All of these bytes."""
        parts = []
        while size > 0:
            part = os.pread(self.file, size, offset)
            if not part:
                raise Unreadable(f"{self.name}: damaged: it ends too early")
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)

    def read(self):
        """The bytes of the header, and of each record with whether they may not belong together."""
        header = self.pread(self.header_size, 0)
        *_, copied, count = HEADER.unpack_from(header)
        size, first = self.record_size, self.header_size
        try:
            count = min(count, self.most, (os.fstat(self.file).st_size - first) // size)
            # A record is whole if its sequence was even, and the same before and after.
            before, data, after = (self.pread(count * size, first) if count > 0 else b"" for _ in range(3))
        except OSError as error:
            raise Unreadable(f"{self.name}: {error.strerror}") from error
        records = []
        for at in range(0, max(count, 0) * size, size):
            sequences = {RECORD.unpack_from(text, at)[0] for text in (before, data, after)}
            if len(sequences) == 1 and sequences.pop() % 2 == 0:
                records.append((data[at:at + size], False))
            else:
                records.append(self.record(first + at))
        return header, copied, records

    def record(self, offset):
        for _ in range(TRIES):
            before, data, after = (self.pread(self.record_size, offset) for _ in range(3))
            sequences = {RECORD.unpack_from(text)[0] for text in (before, data, after)}
            if len(sequences) == 1 and sequences.pop() % 2 == 0:
                return data, False
            time.sleep(0)
        return data, True


def start_of(pid):
    """When a process began, in clock ticks after boot, and its id as it sees it itself; None: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            started = int(file.read().rpartition(b")")[2].split()[19])
        with open(f"/proc/{pid}/status", "rb") as file:
            ids = re.search(rb"^NSpid:(.*)$", file.read(), re.MULTILINE)
        return started, int(ids[1].split()[-1]) if ids else pid
    except (OSError, ValueError, IndexError):
        return None


def memory_of(pid):
    """The shared memory of a process, or None. OSError: there is no such process, or it is another user's."""
    own = start_of(pid)
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for _, entry in zip(range(MOST_FILES), entries):
            try:
                if os.readlink(entry.path) != LINK:
                    continue
                # Nothing else than that is opened: opening a device, say, may do something.
                path = os.open(entry.path, os.O_PATH)
                try:
                    if not stat.S_ISREG(os.fstat(path).st_mode):
                        continue
                    file = os.open(f"/proc/self/fd/{path}", os.O_RDONLY)
                finally:
                    os.close(path)
                source = Source(file, str(pid))
            except (OSError, Unreadable):
                continue
            if own == (source.started, source.process):  # not that of a parent, say
                return source
    return None


class StatsFile:
    """The statistics of a process; they can be read again and again, also when it has ended meanwhile."""

    def __init__(self, path=None, pid=None):
        """By the path of the file, or by the id of a process whose memory can be read."""
        self.pid = pid
        self.memory = memory_of(pid) if pid is not None else None
        if pid is not None:
            if self.memory is None:
                raise Unreadable(f"{pid}: this process has no file of statistics, or has made no state yet; it makes one "
                                 f"when it is started with JEMALLOC_LUA_CONF=stats_file:/tmp/%p.stats")
            self.source = self.memory
            return
        name = printable(str(path))
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if stat.S_ISDIR(os.fstat(file).st_mode):
                os.close(file)
                raise IsADirectoryError(21, "Is a directory")
        except (OSError, ValueError) as error:
            raise Unreadable(f"{name}: {getattr(error, 'strerror', error)}") from error
        self.source = Source(file, name)
        self.pid = self.source.process
        if self.runs():
            try:
                self.memory = memory_of(self.pid)
            except OSError:
                pass

    def runs(self):
        return self.source.started != 0 and start_of(self.pid) == (self.source.started, self.source.process)

    def read(self):
        source = self.memory or self.source
        header, copied, records = source.read()
        states = {}
        for data, torn in records:
            _, number = RECORD.unpack_from(data)
            if number != 0 and number not in states:
                states[number] = State(number, torn, {value.name: value.get(data) for value in source.schema.state})
        closed = {value.name: value.get(header, value.closed) or 0 for value in source.schema.state
                  if value.closed is not None}
        age = max(0.0, time.time() - copied / 1e9) if copied else None
        return Process(self.pid, source.program, source.path if self.memory else source.name, self.runs(), age,
                       {value.name: value.get(header) for value in source.schema.process}, closed,
                       list(states.values()), source.schema)


def open_file(pid_or_path):
    """What a command line names, by the id of a process or by the path of its file."""
    if not pid_or_path.isdecimal():
        return StatsFile(pid_or_path)
    try:
        return StatsFile(pid=int(pid_or_path))
    except FileNotFoundError:
        raise Unreadable(f"{pid_or_path}: there is no such process; a file of this name is ./{pid_or_path}") from None
    except PermissionError:
        raise Unreadable(f"{pid_or_path}: this process is another user's; give the path of its file") from None
    except (ProcessLookupError, OSError):
        raise Unreadable(f"{pid_or_path}: this process has just ended") from None


def all_files():
    """What can be read of all processes, in the order of their ids."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            yield pid, StatsFile(pid=pid)
        except (OSError, Unreadable):
            continue


def read_all():
    """The present numbers of all processes whose memory can be read."""
    for pid, file in all_files():
        try:
            yield pid, file.read()
        except Unreadable:
            continue
