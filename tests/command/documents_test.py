"""The manual pages and the completions hold every option that the parser takes, and no other."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from command import OURS, environment, main, run

ROOT = Path(__file__).resolve().parent.parent.parent
COMPLETION = ROOT / "tools" / "completion"
PAGES = Path(os.environ.get("JEMALLOC_LUA_PAGES", ""))


def listed(message, after):
    return re.split(r", | and ", message.split(after)[1].strip())


# What the parsers say that they take, in the message for what they don't.
OPTIONS = listed(run("--jemalloc-nothing").err, "there are ")
KEYS = listed(run("--jemalloc", "nothing:1").err, "the keys are ")
ALL_KEYS = listed(run("-e", "", JEMALLOC_LUA_CONF="nothing:1").err, "the keys are ")


def shell(*command):
    path = f"{Path(OURS).resolve().parent}:{os.environ['PATH']}"
    done = subprocess.run(command, env=environment(PATH=path), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def in_bash(line):
    """What bash offers at the end of a line."""
    return shell("bash", "--norc", "-c", 'source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; command=${2%% *}; '
                 'complete=$(complete -p "$command"); [[ $complete =~ -F\\ ([a-z_]+) ]]; '
                 '"${BASH_REMATCH[1]}" "$command"; printf "%s\\n" "${COMPREPLY[@]}"',
                 "bash", str(COMPLETION / "jemalloc-luajit.bash"), line)


def documents():
    """Every document of the source, with its text."""
    found = list(ROOT.glob("*.md"))
    for folder in ("alloc", "bench", "binding", "tests", "tools"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return [(path, path.read_text(encoding="utf-8")) for path in found]


def anchors(text):
    """What the headings of a document are called in links."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


class Documents(unittest.TestCase):
    def test_links_lead_to_files_and_headings_that_exist(self):
        count = 0
        for path, text in documents():
            for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE):
                if re.match(r"[a-z]+:", link):
                    continue
                name, _, anchor = link.partition("#")
                target = (path.parent / name) if name else path
                with self.subTest(document=str(path.relative_to(ROOT)), link=link):
                    self.assertTrue(target.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(target.read_text(encoding="utf-8")))
                count += 1
        self.assertGreater(count, 50)

    def test_paths_in_backticks_exist(self):
        for path, text in documents():
            if path.name == "CHANGELOG.md":  # tells of the past as well
                continue
            names = re.findall(r"`((?:alloc|bench|binding|tests|tools)/[\w./-]*)", text)
            sources = re.findall(r"`([a-z_]+/[\w./-]+\.(?:h|cpp|c|lua|py))`", text)
            for name in {*names, *sources} - {"tests/oom/luajit_faults"}:  # which is built
                with self.subTest(document=str(path.relative_to(ROOT)), name=name):
                    self.assertTrue(any((folder / name).exists() for folder in (ROOT, ROOT / "alloc", path.parent)))


class Tools(unittest.TestCase):
    def test_the_page_on_tools_names_each(self):
        page = (ROOT / "tools" / "README.md").read_text(encoding="utf-8")
        for path in sorted((ROOT / "tools").iterdir()):
            if path.name not in ("CMakeLists.txt", "README.md", "__pycache__"):
                with self.subTest(tool=path.name):
                    row = f"| `{path.name}{'/' if path.is_dir() else ''}` |"
                    self.assertTrue(row in page, f"tools/README.md has no row {row}")


class Changelog(unittest.TestCase):
    def test_its_newest_version_is_that_of_the_header(self):
        header = (ROOT / "alloc/include/jemalloc_lua.h").read_text(encoding="ascii")
        version = ".".join(re.findall(r"^#define JEMALLOC_LUA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE))
        page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        self.assertEqual(re.search(r"^## \[([\d.]+)\]", page, re.MULTILINE).group(1), version)


class Options(unittest.TestCase):
    def test_the_page_by_goal_names_every_option(self):
        page = (ROOT / "alloc" / "OPTIONS.md").read_text(encoding="utf-8")
        for key in ALL_KEYS:
            with self.subTest(key=key):
                self.assertRegex(page, rf"`(?:[^`]*,)?{key}[`:]")

    def test_options_that_documents_advise_are_accepted(self):
        count = 0
        for path, text in documents():
            for conf in set(re.findall(r"`((?:[a-z_]+:[^`\s,]+,?)+)`", text)):
                if conf.partition(":")[0] not in ALL_KEYS or re.search(r"INDEX|:'", conf):  # arena:INDEX, in quotes
                    continue
                conf = conf.replace("/tmp/", tempfile.gettempdir() + "/")
                with self.subTest(document=str(path.relative_to(ROOT)), conf=conf):
                    self.assertEqual(run("-e", "", JEMALLOC_LUA_CONF=conf).err, "")
                count += 1
        self.assertGreater(count, 30)


class Security(unittest.TestCase):
    def test_the_files_that_show_the_promises_exist(self):
        page = (ROOT / "alloc" / "SECURITY.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:tests|tools)/[^` ]+)`", page))
        self.assertGreater(len(named), 20)
        self.assertEqual([], sorted(name for name in named if not (ROOT / name).is_file()))

    def test_each_promise_names_a_test(self):
        page = (ROOT / "alloc" / "SECURITY.md").read_text(encoding="utf-8")
        promises = re.split(r"^\*\*", page.split("## Promised")[1].split("## Not promised")[0], flags=re.MULTILINE)[1:]
        self.assertEqual(len(promises), 5)
        for promise in promises:
            self.assertRegex(promise, r"\| `tests/", promise.splitlines()[0])


@unittest.skipUnless((PAGES / "jemalloc-luajit.1").is_file(), "the manual pages were not built")
class Manual(unittest.TestCase):
    def test_the_command_has_every_option(self):
        page = (PAGES / "jemalloc-luajit.1").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\.It Cm (\w+) :", page, re.MULTILINE), ALL_KEYS)
        flags = re.findall(r"^\.It Fl (\S+)", page, re.MULTILINE)
        self.assertEqual({"-" + flag.replace("\\-", "-") for flag in flags if "jemalloc" in flag}, set(OPTIONS))

    def test_it_is_made_where_paths_have_spaces_too(self):
        with tempfile.TemporaryDirectory(prefix="it's my ü ") as folder:
            command, page = Path(folder) / "jemalloc-luajit", Path(folder) / "page"
            command.symlink_to(OURS)
            subprocess.run([OURS, ROOT / "tools/man/generate.lua", command, ROOT / "alloc/include/jemalloc_lua.h",
                            ROOT / "tools/man/jemalloc-luajit.1.in", page], check=True)
            self.assertEqual(page.read_bytes(), (PAGES / "jemalloc-luajit.1").read_bytes())

    def test_the_shims_page_has_what_is_the_processs(self):
        page = PAGES / "with-jemalloc.1"
        if not page.exists():
            self.skipTest("there is no shim in this build")
        keys = re.findall(r"^\.It Cm (\w+) :", page.read_text(encoding="utf-8"), re.MULTILINE)
        self.assertEqual(keys, ALL_KEYS[len(KEYS):])

    def test_the_library_has_every_function(self):
        header = (ROOT / "alloc/include/jemalloc_lua.h").read_text(encoding="ascii")
        functions = re.findall(r"^JEMALLOC_LUA_API [^;(]*?(\w+)\(", header, re.MULTILINE)
        page = (PAGES / "jemalloc_lua.3").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\.Fo (\w+)", page, re.MULTILINE), functions)
        for option in KEYS:
            self.assertRegex(page, rf"\b{option};")

    def test_the_pages_are_well_formed(self):
        pages = [str(PAGES / name) for name in sorted(os.listdir(PAGES)) if re.search(r"\.\d$", name)]
        if shutil.which("mandoc"):
            self.assertEqual(shell("mandoc", "-T", "lint", "-W", "warning,stop", *pages), [])
        elif not shutil.which("man"):
            self.skipTest("neither mandoc nor man is installed")
        if shutil.which("man"):
            for page in pages:
                done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page], text=True,
                                      env=environment(MANWIDTH="80", LC_ALL="C.UTF-8"), capture_output=True, check=True)
                self.assertEqual(done.stderr, "", page)


class Completion(unittest.TestCase):
    def test_bash_offers_every_option(self):
        self.assertEqual(set(in_bash("jemalloc-luajit --jem")), set(OPTIONS))
        self.assertEqual(in_bash("jemalloc-luajit --jemalloc "), [key + ":" for key in KEYS])
        self.assertEqual(in_bash("with-jemalloc --conf "), [key + ":" for key in ALL_KEYS])

    def test_bash_offers_what_a_key_takes_and_what_comes_after(self):
        for line, offered in (("jemalloc-luajit --jemalloc front:", ["slab", "direct", "checked"]),
                              ("jemalloc-luajit --jemalloc=limit:64M,thp:al", ["always"]),
                              ("jemalloc-luajit --jemalloc front:slab,fr", [""]),  # it is there already
                              ("jemalloc-luajit --jemalloc limit:", [""]),
                              ("jemalloc-luajit --jemalloc-stats=j", ["json"]),
                              ("jemalloc-luajit --jemalloc-allocator b", ["builtin"]),
                              ("with-jemalloc --conf limit:1M,stats_signal:US", ["USR1", "USR2"]),
                              ("with-jemalloc --stats --ver", ["--verbose"])):
            self.assertEqual(in_bash(line), offered, line)

    def test_fish_offers_every_option(self):
        if not shutil.which("fish"):
            self.skipTest("fish is not installed")

        def offered(line):
            script = f"source '{COMPLETION}/jemalloc-luajit.fish'; complete -C '{line}'"
            return [each.split("\t")[0] for each in shell("fish", "--no-config", "-c", script)]

        self.assertEqual(set(offered("jemalloc-luajit --jem")), set(OPTIONS))
        self.assertEqual({each.split(":")[0] for each in offered("jemalloc-luajit --jemalloc ")}, set(KEYS))
        self.assertEqual(offered("jemalloc-luajit --jemalloc limit:1M,thp:al"), ["limit:1M,thp:always"])

    def test_zsh_offers_every_option(self):
        if not shutil.which("zsh"):
            self.skipTest("zsh is not installed")
        file = COMPLETION / "jemalloc-luajit.zsh"
        keys = shell("zsh", "-fc", f"source '{file}'; _jemalloc_luajit_keys jemalloc-luajit")
        self.assertEqual([key.split("[")[0] for key in keys], KEYS)
        options = shell("zsh", "-fc", f"source '{file}'; _jemalloc_luajit_options jemalloc-luajit")
        text = file.read_text(encoding="utf-8")
        for option in OPTIONS:
            self.assertTrue(f"{option}=[" in text or any(each.startswith(option + "[") for each in options), option)


if __name__ == "__main__":
    main()
