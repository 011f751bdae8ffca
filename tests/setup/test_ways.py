"""tools/setup fails in many ways; its last line says what would help."""

import os
import unittest

from system import NEW, OLD, System

PAGE = b"<!DOCTYPE html>\n<html><body>Please log in to the network</body></html>\n"


class Ways(unittest.TestCase):
    def setUp(self):
        self.system = System()
        self.addCleanup(self.system.close)

    def fails(self, *words, arguments=(), code=1):
        """Setup fails, and its last line has all of the words."""
        status, _, errors = self.system.run(*arguments)
        lines = errors.splitlines() or [""]
        self.assertEqual(status, code, errors)
        self.assertTrue(lines[-1].startswith("setup: "), errors)
        for word in words:
            self.assertIn(word, lines[-1])
        return lines

    def succeeds(self, *arguments):
        status, output, errors = self.system.run(*arguments)
        self.assertEqual((status, errors), (0, ""))
        return output

    def test_no_network(self):
        lines = self.fails("jemalloc 9.1", "jemalloc-9.1.tar.bz2", "tools/setup --tarball FILE")
        self.assertEqual(len(lines), 1)

    def test_no_network_for_packages(self):
        self.system.environment["ABSENT"] = "ninja-build"
        if os.geteuid() != 0:
            self.system.has("sudo", '[ "$1" = -n ] && exit 0; exec "$@"')
        self.fails("Unable to fetch some archives", "the network", "apt-get install ninja-build")

    def test_no_apt(self):
        self.system.lacks("apt-get", "apt-cache", "dpkg-query", "ninja", "make")
        lines = self.fails("install ninja make", "run this again")
        self.assertTrue(any("dnf install" in line for line in lines))

    def test_wrong_hash(self):
        self.system.downloads(b"another tarball")
        lines = self.fails("the download is not jemalloc 9.1", "SHA-256", "--tarball FILE")
        self.assertEqual(len(lines), 1)
        self.assertFalse(self.system.cache.exists())

    def test_full_disk(self):
        self.system.downloads(NEW)
        self.system.has("cp", "echo half >\"$2\"; echo \"cp: error writing '$2': No space left on device\" >&2; exit 1")
        self.fails("No space left on device", "XDG_CACHE_HOME")
        self.assertEqual(list(self.system.cache.iterdir()), [])

    def test_no_sudo(self):
        self.system.environment["ABSENT"] = "ninja-build"
        self.system.has("id", "echo 1000")
        lines = self.fails("only root may install them", "apt-get install ninja-build")
        self.assertEqual(len(lines), 1)

    def test_old_cmake(self):
        self.system.has("cmake", "printf 'cmake version 3.22.1\\n'")
        self.fails("cmake 3.22.1 is too old", "3.25", "pip install cmake")

    def test_no_compiler(self):
        self.system.lacks("apt-get", "apt-cache", "dpkg-query", "c++")
        self.fails("install c++ ")

    def test_read_only(self):
        self.system.downloads(NEW)
        self.system.environment["XDG_CACHE_HOME"] = "/proc/cache"  # where root may not write either
        self.fails("/proc/cache", "XDG_CACHE_HOME", "that may be written")

    def test_no_home(self):
        del self.system.environment["HOME"]
        self.fails("neither HOME nor XDG_CACHE_HOME is set", "set one")

    def test_two_luajits(self):
        self.system.has("luajit", "printf 'LuaJIT 2.1.9 -- Copyright\\n'")
        self.fails("the command is 2.1.9, the library 2.1.7", "PATH or PKG_CONFIG_PATH")

    def test_another_luarocks(self):
        self.system.downloads(NEW)
        self.system.has("luarocks", "echo 5.4")
        self.assertIn("'luarocks --lua-version 5.1 make'\n", self.succeeds())

    def test_a_page_for_an_answer(self):
        self.system.downloads(PAGE)
        self.fails("a proxy answers", "https_proxy", "--tarball FILE")

    # ---- And where it does not fail

    def test_a_given_file(self):
        file = self.system.folder / "given"
        file.write_bytes(OLD)
        self.succeeds("--tarball", str(file))
        self.assertEqual((self.system.cache / "jemalloc-9.0.tar.bz2").read_bytes(), OLD)

    def test_a_wrong_file(self):
        file = self.system.folder / "given"
        file.write_bytes(b"another")
        self.fails("given is not jemalloc", "jemalloc-9.1.tar.bz2", arguments=("--tarball", str(file)))
        self.fails("no such file", "jemalloc-9.1.tar.bz2", arguments=("--tarball", "/nonexistent"))
        self.fails("one of: 9.1 9.0", arguments=("--jemalloc", "8"), code=2)

    def test_the_next_version_is_taken(self):
        self.system.cache.mkdir(parents=True)
        (self.system.cache / "jemalloc-9.0.tar.bz2").write_bytes(OLD)
        self.assertIn("jemalloc 9.1 cannot be reached: going on with 9.0", self.succeeds())
        self.fails("no source of jemalloc 9.1", arguments=("--jemalloc", "9.1"))

    def test_a_part_of_the_source_is_missing(self):
        self.system.has("apt-get", """case "$*" in
    *--print-uris*) printf "'http://mirror.test/debian/dists/stable/InRelease' x 0\\n" ;;
    *source*) printf %s '""" + NEW.decode() + """' >jemalloc_9.1.orig.tar.bz2; exit 100 ;;
esac""")
        self.assertEqual(self.succeeds(), "setup: getting jemalloc 9.1\n")

    def test_the_alternative_that_there_is(self):
        self.system.environment["ABSENT"] = "luajit"
        self.system.has("id", "echo 1000")
        self.system.has("apt-cache", "case $2 in *luajit2*) ;; *) printf '  Candidate: 1\\n' ;; esac")
        line = self.fails("apt-get install libluajit-5.1-dev luajit")[-1]
        self.assertNotIn("luajit2", line)

    def test_all_is_there(self):
        self.system.cache.mkdir(parents=True)
        (self.system.cache / "jemalloc-9.1.tar.bz2").write_bytes(NEW)
        self.assertEqual(self.succeeds(), "")
        self.assertEqual(self.succeeds("--jemalloc", "9.1"), "")


if __name__ == "__main__":
    unittest.main()
