#!/usr/bin/env python3
"""Runs the programs of a Markdown file, in their order, in a folder of their own.

    run_readme.py FILE PREFIX FOLDER

A fenced block says by its first line what it is:

    ```LANGUAGE file=NAME      is written to NAME
    ```sh setup                is run by bash in front of each shell block that follows
    ```sh run [exit=N]         is run by bash, and must end with N (0)
    ```lua run [in=NAME,NAME]  is run by jemalloc-luajit, or by each of the commands that are named. luajit, a stock
                               one, finds the module by LUA_CPATH; without a luajit it is left out, which is printed
    ```output                  lines that the program before it has to print, in this order

With need=NAME,NAME a program, and the output after it, is left out where one of the commands or files is not
there; it runs on the libraries that the system's packages bring. PREFIX, an installed prefix, and SOURCE, the
folder of the source, are variables of the shell blocks; PREFIX/bin is on their PATH. Port 8080 becomes one that is
free. Other blocks are left alone.
"""

import atexit
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
PATH = os.environ["PATH"] + ":/usr/sbin"
FENCE = re.compile(r"^```(\S*)[ \t]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command, folder, prefix, settings):
    cpath = f"{prefix}/lib/lua/5.1/?.so;{os.environ.get('LUA_CPATH', ';')}"
    env = dict(os.environ, PREFIX=str(prefix), SOURCE=str(SOURCE), PATH=f"{prefix}/bin:{PATH}", PWD=str(folder),
               LUA_CPATH=cpath)
    if "need" in settings:
        env.pop("LD_LIBRARY_PATH", None)
    expected = int(settings.get("exit", 0))
    done = subprocess.run(command, cwd=folder, env=env, text=True, timeout=240,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout, end="")
    if done.returncode != expected:
        sys.exit(f"run_readme: ended with {done.returncode}, not {expected}")
    if not done.stdout:
        sys.exit("run_readme: printed nothing")
    return done.stdout


def missing(names):
    """The first of the names that is no command and no file."""
    return next((name for name in names.split(",") if not shutil.which(name, path=PATH) and not Path(name).exists()),
                None)


def commands(language, body, prefix, settings):
    """The commands that run a block."""
    if language == "sh":
        return [["bash", "-ec", body]]
    if language != "lua":
        sys.exit(f"run_readme: can't run {language}; it takes sh and lua")
    places = {"jemalloc-luajit": prefix / "bin/jemalloc-luajit", "luajit": os.environ.get("LUAJIT") or shutil.which("luajit")}
    names = settings.get("in", "jemalloc-luajit").split(",")
    for name in names:
        if name not in places:
            sys.exit(f"run_readme: in={name}: it takes {', '.join(places)}")
        if not places[name]:
            print(f"--- skipped: {name} is not installed")
    return [[places[name], "-e", body] for name in names if places[name]]


def check(body, printed):
    lines = iter(printed.splitlines() if printed is not None else [])
    for line in body.splitlines():
        if line not in lines:  # takes the lines up to it
            sys.exit(f"run_readme: this was not printed, or not in its place: {line}")


def without_spaces(path):
    """The path, or a link to it: what pkg-config prints stands unquoted in the programs, as people write it."""
    if " " not in str(path):
        return path
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    link = Path(folder) / path.name
    link.symlink_to(path)
    return link


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: run_readme.py FILE PREFIX FOLDER")
    text = Path(sys.argv[1]).read_text(encoding="utf-8").replace("8080", str(free_port()))
    prefix, folder = without_spaces(Path(sys.argv[2]).resolve()), Path(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    programs, printed, skipped, setup = 0, None, False, ""
    folder = without_spaces(folder.resolve())
    for language, words, body in FENCE.findall(text):
        settings = dict(word.partition("=")[::2] for word in words.split())
        absent = missing(settings["need"]) if "need" in settings else None
        if absent:
            print(f"--- skipped: {absent} is not installed")
            skipped = True
        elif "file" in settings:
            (folder / settings["file"]).write_text(body, encoding="utf-8")
        elif language == "output":
            if not skipped:
                check(body, printed)
        elif "setup" in settings:
            setup += body
        elif "run" in settings:
            print(f"--- {language}\n{body}---", flush=True)
            for command in commands(language, setup + body if language == "sh" else body, prefix, settings):
                printed, skipped = run(command, folder, prefix, settings), False
                programs += 1
    if programs == 0:
        sys.exit("run_readme: no program was found")


if __name__ == "__main__":
    main()
