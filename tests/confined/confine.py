"""Runs a command in a confined process:

    confine.py [deny=CALL,...[:ERRNO|:kill]] [allow=FILE[:ERRNO|:kill]] [as=MIB] [data=MIB] [lock=LIBRARY] COMMAND...

`deny` refuses system calls (default: EPERM). `allow` refuses all others: FILE is a group of systemd's (@system-service), a
profile for containers (.json), or a document with a table of system calls (.md). `as` and `data` are RLIMIT_AS and
RLIMIT_DATA. `lock` loads a library that locks all memory, since locks end with exec(). Ends with the
command's status, or 77 where this system can't confine.
"""

import ctypes
import errno
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

SKIPPED = 77
ALLOW = 0x7FFF0000
KILL = 0x80000000


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def action(name):
    if name == "kill":
        return KILL
    return 0x00050000 | getattr(errno, name)


class Filter:
    def __init__(self, default):
        try:
            self.library = ctypes.CDLL("libseccomp.so.2")
        except OSError:
            skip("libseccomp.so.2 is not here (Debian: libseccomp2)")
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, what, call):
        number = self.library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # below: another machine has it
            self.library.seccomp_rule_add(self.context, ctypes.c_uint32(what), number, 0)
        return number >= 0

    def load(self):
        if self.library.seccomp_load(self.context) != 0:
            skip("seccomp is refused here")


def deny(value):
    calls, _, what = value.partition(":")
    rules = Filter(ALLOW)
    for call in calls.split(","):
        if not rules.add(action(what or "EPERM"), call):
            skip(f"this machine has no {call}()")
    rules.load()


# What a program calls as it starts, ends, and prints, whatever it is linked with.
OF_ANY_PROGRAM = """execve exit exit_group brk arch_prctl set_tid_address set_robust_list rseq access pread64 lseek ioctl
    getcwd write fstat newfstatat rt_sigaction rt_sigprocmask rt_sigreturn tgkill gettid getpid sched_yield clone3
    clock_gettime gettimeofday""".split()


def group_of_systemd(name):
    """The calls of a group, with those of the groups in it."""
    if shutil.which("systemd-analyze") is None:
        skip("systemd-analyze is not here (Debian: systemd)")
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        skip(shown.stderr.strip())
    for word in re.findall(r"^ +(\S+)$", shown.stdout, re.MULTILINE):
        yield from group_of_systemd(word) if word.startswith("@") else [word]


def profile_of_containers(path):
    if not os.path.exists(path):
        skip(f"{path} is not here (Debian: golang-github-containers-common)")
    for rule in json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") and not rule.get("includes"):
            yield from rule["names"]
    yield from OF_ANY_PROGRAM  # some of them are allowed by machine


def table_of_document(path):
    text = pathlib.Path(path).read_text(encoding="utf-8").partition("## System calls")[2].partition("\n## ")[0]
    for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
        yield from re.findall(r"`(\w+)`", cell)
    yield from OF_ANY_PROGRAM


def allow(value):
    source, _, what = value.partition(":")
    if source.startswith("@"):
        calls = set(group_of_systemd(source))
    else:
        calls = set((profile_of_containers if source.endswith(".json") else table_of_document)(source))
    rules = Filter(action(what or "EPERM"))
    for call in calls:
        rules.add(ALLOW, call)
    rules.load()


def limit(which, value):
    mib = int(value)
    resource.setrlimit(which, (mib << 20, mib << 20))


def lock(library):
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard != resource.RLIM_INFINITY and os.geteuid() != 0:
        skip("memory may not be locked (ulimit -l)")
    os.environ["LD_PRELOAD"] = library


WAYS = {
    "deny": deny,
    "allow": allow,
    "as": lambda value: limit(resource.RLIMIT_AS, value),
    "data": lambda value: limit(resource.RLIMIT_DATA, value),
    "lock": lock,
}


def main(arguments):
    ways = []
    while arguments and arguments[0].partition("=")[0] in WAYS:
        ways.append(arguments.pop(0).partition("="))
    if not arguments:
        sys.exit(__doc__)
    for name, _, value in ways:
        WAYS[name](value)
    os.execv(arguments[0], arguments)


main(sys.argv[1:])
