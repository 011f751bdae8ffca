#!/usr/bin/env python3
"""Runs the programs of a Markdown file, in their order, in a folder of their own.

    run_readme.py FILE PREFIX FOLDER

A fenced block says by its first line what it is:

    ```LANGUAGE file=NAME   is written to NAME
    ```sh run [exit=N]      is run by bash, and must end with N (0)
    ```lua run              is run by PREFIX/bin/jemalloc-luajit
    ```output               lines that the program before it has to print

PREFIX, an installed prefix, is the variable PREFIX of the shell blocks. Other blocks are left alone.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r"^```(\S*)[ \t]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command, folder, prefix, expected):
    env = dict(os.environ, PREFIX=str(prefix))
    done = subprocess.run(command, cwd=folder, env=env, text=True, timeout=240,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout, end="")
    if done.returncode != expected:
        sys.exit(f"run_readme: ended with {done.returncode}, not {expected}")
    if not done.stdout:
        sys.exit("run_readme: printed nothing")
    return done.stdout


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: run_readme.py FILE PREFIX FOLDER")
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    prefix, folder = Path(sys.argv[2]).resolve(), Path(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    programs, printed = 0, None
    for language, words, body in FENCE.findall(text):
        settings = dict(word.partition("=")[::2] for word in words.split())
        if "file" in settings:
            (folder / settings["file"]).write_text(body, encoding="utf-8")
        elif language == "output":
            for line in body.splitlines():
                if printed is None or line not in printed.splitlines():
                    sys.exit(f"run_readme: this was not printed: {line}")
        elif "run" in settings:
            print(f"--- {language}\n{body}---", flush=True)
            if language == "sh":
                command = ["bash", "-ec", body]
            elif language == "lua":
                command = [prefix / "bin/jemalloc-luajit", "-e", body]
            else:
                sys.exit(f"run_readme: can't run {language}; it takes sh and lua")
            printed = run(command, folder, prefix, int(settings.get("exit", 0)))
            programs += 1
    if programs == 0:
        sys.exit("run_readme: no program was found")


if __name__ == "__main__":
    main()
