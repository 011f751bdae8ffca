"""A system that tools/setup runs on: a folder of commands that stand in for apt, curl and the like.

Nothing else is on its PATH but what every system has. Its table of jemalloc's versions names tarballs made here, so
that a download can be right or wrong without a network.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

PLAIN = """awk basename bash cat chmod cp cut dirname echo env grep head id ls mkdir mktemp mv rm sed sha256sum sort tail tar
touch tr uniq xargs""".split()

NEW, OLD = b"tarball of the new version", b"tarball of the old version"

INSTALLED = """case "$*" in *"$ABSENT"*) [ -n "$ABSENT" ] && exit 1 ;; esac
printf installed"""
NO_NETWORK = """case "$*" in
    *--print-uris*) printf "'http://mirror.test/debian/dists/stable/InRelease' x 0\\n" ;;
    *) printf 'E: Unable to fetch some archives\\n' >&2; exit 100 ;;
esac"""
CANDIDATES = "printf '%s:\\n  Candidate: 1.0\\n' \"$2\""


class System:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="setup-"))
        self.bin = self.folder / "bin"
        self.home = self.folder / "home"
        self.cache = self.home / ".cache" / "jemalloc_lua"
        tools = self.folder / "tools"
        for folder in (self.bin, self.home, tools / "cmake"):
            folder.mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup", tools)
        self.setup = tools / "setup"
        self.table = tools / "cmake" / "jemalloc-versions"
        self.table.write_text("# the table\n" + "".join(
            f"{version} {hashlib.sha256(content).hexdigest()} jemalloc-{version}.tar.bz2 sid -\n"
            for version, content in (("9.1", NEW), ("9.0", OLD))), encoding="utf-8")
        for name in PLAIN:
            (self.bin / name).symlink_to(shutil.which(name))
        self.environment = {"PATH": str(self.bin), "HOME": str(self.home), "TMPDIR": str(self.folder), "ABSENT": ""}
        # All is installed, and there is no network.
        self.has("dpkg-query", INSTALLED)
        self.has("apt-cache", CANDIDATES)
        self.has("apt-get", NO_NETWORK)
        self.has("curl", "exit 6")
        self.has("cmake", "printf 'cmake version 3.25.1\\n'")
        self.has("luajit", "printf 'LuaJIT 2.1.7 -- Copyright\\n'")
        self.has("pkg-config", "printf '2.1.7\\n'")
        for name in ("c++", "ninja", "make", "bzip2"):
            self.has(name, "exit 0")

    def has(self, name, script):
        """A command of that name, which is a shell script."""
        file = self.bin / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    def lacks(self, *names):
        for name in names:
            (self.bin / name).unlink(missing_ok=True)

    def downloads(self, content):
        """What curl gets, whatever it is asked for."""
        file = self.folder / "download"
        file.write_bytes(content)
        self.has("curl", f"""while [ "$1" != -o ]; do shift; done
cat {file} >"$2" """)

    def run(self, *arguments):
        done = subprocess.run([str(self.bin / "bash"), str(self.setup), *arguments], capture_output=True, text=True,
                              env=self.environment, timeout=100, check=False)
        return done.returncode, done.stdout, done.stderr

    def close(self):
        shutil.rmtree(self.folder)
