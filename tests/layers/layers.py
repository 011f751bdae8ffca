#!/usr/bin/env python3
"""Reads the layers of alloc/ from the first table of alloc/README.md, and prints each file that breaks them.

    layers.py [ALLOC]

The table has a row for each folder, the lowest layer first. Its columns:

    folder        the folder, as `pages/`
    idea          text for people
    may include   the folders above this row that its files may include, as `base/`, `config/`; "all above"; "nothing"
    outside       what else its files may include: Lua (lua.h and its like), jemalloc (system/jemalloc.h, which alone
                  includes <jemalloc/jemalloc.h>), kernel (sys/*.h, linux/*.h), or "nothing". "nothing, nor a clock or
                  memory" forbids the headers of those as well
    begin with    the file that explains the folder; it opens with a comment

Of alloc/, the files of binding/, bench/ and tools/ beside it include the public header and state/inside.h alone;
GUESTS lists what is allowed besides, with the reason.

Ends with 1 where a file breaks the table, and with 2 where the table can't be read. tools/lint layers runs it.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:<([^>]+)>|"([^"]+)")', re.MULTILINE)
SOURCES = {".h", ".hpp", ".c", ".cpp"}
KINDS = {
    "Lua": re.compile(r"^(lua|lauxlib|lualib|luajit|luaconf)\.h(pp)?$"),
    "jemalloc": re.compile(r"^(jemalloc/|system/)jemalloc\.h$"),
    "kernel": re.compile(r"^(sys|linux|asm)/(?!types\.h$)"),
}
PURE = "nor a clock or memory"
IMPURE = re.compile(r"^(chrono|c?time(\.h)?|sys/time\.h|new|memory|memory_resource|(c)?stdlib(\.h)?|malloc\.h|vector|"
                    r"string|map|set|unordered_\w+|list|deque|mutex|thread|atomic|pthread\.h|unistd\.h|c?stdio(\.h)?)$")


GUESTS = {
    "binding/module.cpp": {"state/extras.h"},      # defines what alloc/ adds to each state
    "bench/allocators.cpp": {"system/jemalloc.h"},  # calls jemalloc as directly as the library does, for comparison
}


class Unreadable(Exception):
    """The table is not one that this test understands."""


@dataclass
class Layer:
    folder: str
    may_include: set
    outside: set
    pure: bool
    first_file: str


def folders_in(cell):
    return re.findall(r"`([\w-]+)/`", cell)


def read_layers(readme):
    """The layers by folder, in the order of the table."""
    rows = []
    for line in readme.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    if len(rows) < 3 or len(rows[0]) != 5 or rows[0][0] != "folder":
        raise Unreadable("the first table has not the columns folder, idea, may include, outside, begin with")
    layers = {}
    for cells in rows[2:]:
        if len(cells) != 5 or len(folders_in(cells[0])) != 1:
            raise Unreadable(f"this row is not a folder with five columns: {' | '.join(cells)}")
        folder = folders_in(cells[0])[0]
        allowed = set(layers) if cells[2] == "all above" else set(folders_in(cells[2]))
        unknown = sorted(allowed - set(layers))
        if unknown:
            raise Unreadable(f"{folder}/ may include {', '.join(unknown)}/, which stands in no row above it")
        if not allowed and cells[2] != "nothing":
            raise Unreadable(f"{folder}/ may include '{cells[2]}': it takes folders, 'all above' or 'nothing'")
        first = re.fullmatch(r"`([\w./-]+)`", cells[4])
        if first is None:
            raise Unreadable(f"{folder}/: the last column names one file, not '{cells[4]}'")
        outside = {kind for kind in KINDS if re.search(rf"\b{kind}\b", cells[3])}
        layers[folder] = Layer(folder, allowed, outside, PURE in cells[3], first.group(1))
    return layers


def opens_with_comment(text):
    """Whether a file begins with a comment that says something: one sentence at least."""
    comment = re.match(r"\s*(/\*.*?\*/|(?://[^\n]*\n)+)", text, re.DOTALL)
    words = re.findall(r"\w+", comment.group(1)) if comment else []
    return len(words) >= 5


def violations(alloc):
    layers = read_layers((alloc / "README.md").read_text(encoding="utf-8"))
    for layer in layers.values():
        if not (alloc / layer.folder).is_dir():
            yield f"README.md: the table names {layer.folder}/, and there is no such folder"
            continue
        first = alloc / layer.folder / layer.first_file
        if not first.is_file():
            yield f"README.md: {layer.folder}/ is to begin with {layer.first_file}, and there is no such file"
        elif not opens_with_comment(first.read_text(encoding="utf-8")):
            yield f"{layer.folder}/{layer.first_file}: the file that explains its folder opens with no comment"

    for path in sorted(path for path in alloc.rglob("*") if path.suffix in SOURCES):
        name = path.relative_to(alloc).as_posix()
        folder = name.partition("/")[0]
        if "/" not in name or folder not in layers:
            yield f"{name}: it lies in no folder of the table in README.md"
            continue
        layer = layers[folder]
        text = path.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            problem = problem_of(alloc, layers, layer, match.group(1) or match.group(2), match.group(2) is not None)
            if problem:
                yield f"{name}:{line}: {problem}"


def violations_of_guests(alloc):
    """The same for the folders beside alloc/ that use it."""
    folders = read_layers((alloc / "README.md").read_text(encoding="utf-8"))
    root = alloc.parent
    for path in sorted(path for guest in ("binding", "bench", "tools") for path in (root / guest).rglob("*")
                       if path.suffix in SOURCES):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            header = match.group(2) or ""
            if header.partition("/")[0] not in folders or "/" not in header:
                continue
            if header != "state/inside.h" and header not in GUESTS.get(name, ()):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{name}:{line}: it includes {header}; outside of alloc/ state/inside.h alone is included"


def problem_of(alloc, layers, layer, name, quoted):
    """What is wrong with a file of this layer that includes `name`, or None."""
    if name.startswith("jemalloc/") and layer.folder != "system":
        return f"{layer.folder}/ includes {name}; system/jemalloc.h alone does"
    kind = next((kind for kind, pattern in KINDS.items() if pattern.search(name)), None)
    if kind and kind not in layer.outside:
        allowed = ", ".join(f"{each.folder}/" for each in layers.values() if kind in each.outside) or "no folder"
        return f"{layer.folder}/ includes {name}; {kind} is for {allowed}"
    if layer.pure and IMPURE.search(name):
        return f"{layer.folder}/ includes {name}; it decides without a clock, memory or calls"
    if not quoted:
        return None
    of = name.partition("/")[0] if "/" in name else "include"
    if of == "include" and not (alloc / "include" / name).is_file():
        return f"{name}: say in which folder it is, as \"base/text.h\""
    if of not in layers:
        return f"{name}: {of}/ is no folder of the table in README.md"
    if of == layer.folder or of in layer.may_include:
        return None
    order = list(layers)
    if order.index(of) > order.index(layer.folder):
        return f"{layer.folder}/ includes {name}; {of}/ comes after {layer.folder}/ in the table"
    allowed = ", ".join(f"{each}/" for each in order if each in layer.may_include) or "nothing"
    return f"{layer.folder}/ includes {name}; its row allows {allowed}"


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit(print(__doc__) if sys.argv[1] in ("-h", "--help") else "usage: layers.py [ALLOC]")
    default = Path(__file__).resolve().parent.parent.parent / "alloc"
    alloc = Path(sys.argv[1]) if len(sys.argv) == 2 else default
    try:
        found = [f"alloc/{each}" for each in violations(alloc)] + list(violations_of_guests(alloc))
    except (OSError, Unreadable) as error:
        print(f"layers: {alloc / 'README.md'}: {error}", file=sys.stderr)
        sys.exit(2)
    for each in found:
        print(each)
    if found:
        print(f"layers: {len(found)} against the table in alloc/README.md", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
