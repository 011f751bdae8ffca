"""The layer test finds what it is there to find: each kind of breach, in a small tree that is right otherwise."""

import tempfile
import unittest
from pathlib import Path

import layers

README = """# The heap

| folder | idea | may include | outside | begin with |
| --- | --- | --- | --- | --- |
| `include/` | the header | nothing | Lua | `api.h` |
| `base/` | text | `include/` | nothing | `text.h` |
| `policy/` | decisions | nothing | nothing, nor a clock or memory | `retention.h` |
| `system/` | the kernel | `base/` | jemalloc, kernel | `kernel.h` |
| `blocks/` | blocks | `base/`, `policy/` | nothing | `small.h` |
| `state/` | states | all above | Lua | `states.cpp` |

| another | table |
| --- | --- |
"""
COMMENT = "// What this file is for, in one sentence.\n"
FILES = {
    "include/api.h": "/* The public header of the library. */\n#include <lua.h>\n",
    "base/text.h": COMMENT + '#include "api.h"\n#include <cstddef>\n',
    "policy/retention.h": COMMENT + "#include <cstddef>\n",
    "system/kernel.h": COMMENT + '#include <sys/mman.h>\n#include <jemalloc/jemalloc.h>\n#include "base/text.h"\n',
    "blocks/small.h": COMMENT + '#include "base/text.h"\n#include "policy/retention.h"\n',
    "blocks/small.cpp": '#include "blocks/small.h"\n',
    "state/states.cpp": COMMENT + '#include <lua.hpp>\n#include "blocks/small.h"\n#include "system/kernel.h"\n',
}


class Layers(unittest.TestCase):
    def found(self, changes=None, readme=README):
        """What is found in the tree with these files changed, added, or, where None, taken away."""
        with tempfile.TemporaryDirectory() as folder:
            alloc = Path(folder)
            (alloc / "README.md").write_text(readme, encoding="utf-8")
            for name, text in {**FILES, **(changes or {})}.items():
                if text is not None:
                    (alloc / name).parent.mkdir(exist_ok=True)
                    (alloc / name).write_text(text, encoding="utf-8")
            return list(layers.violations(alloc))

    def assert_one(self, changes, expected):
        found = self.found(changes)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_a_tree_that_keeps_the_order_passes(self):
        self.assertEqual(self.found(), [])

    def test_an_include_of_a_layer_above(self):
        self.assert_one({"base/text.cpp": '#include "blocks/small.h"\n'}, "base/text.cpp:1: base/ includes blocks/small.h")

    def test_an_include_of_a_layer_beneath_that_the_row_does_not_name(self):
        self.assert_one({"blocks/small.cpp": '\n#include "system/kernel.h"\n'}, "small.cpp:2: blocks/ includes system/kernel.h")

    def test_a_file_moved_into_the_wrong_folder(self):
        moved = self.found({"blocks/small.cpp": None, "base/small.cpp": FILES["blocks/small.cpp"]})
        self.assertEqual(len(moved), 1)
        self.assertIn("blocks/ comes after base/ in the table", moved[0])

    def test_a_folder_that_is_not_in_the_table(self):
        self.assert_one({"extra/one.cpp": COMMENT}, "extra/one.cpp: it lies in no folder of the table")
        self.assert_one({"one.cpp": COMMENT}, "one.cpp: it lies in no folder of the table")
        self.assert_one({"base/text.cpp": '#include "extra/one.h"\n'}, "extra/ is no folder of the table")

    def test_a_row_without_its_folder_or_its_first_file(self):
        self.assertIn("there is no such folder", self.found(readme=README.replace("`base/` | text", "`gone/` | text").replace(
            "`base/`", "`include/`"))[0])
        self.assert_one({"policy/retention.h": None, "policy/growth.h": COMMENT}, "begin with retention.h, and there is no")

    def test_a_first_file_without_an_opening_comment(self):
        for text in ("#include <cstddef>\n", "// text.h\n", "#pragma once\n" + COMMENT):
            self.assert_one({"policy/retention.h": text}, "policy/retention.h: the file that explains its folder")

    def test_jemalloc_and_the_kernel_outside_of_system(self):
        self.assert_one({"blocks/small.cpp": "#include <jemalloc/jemalloc.h>\n"}, "system/jemalloc.h alone does")
        self.assert_one({"blocks/small.cpp": '#include "system/jemalloc.h"\n'}, "jemalloc is for system/")
        self.assert_one({"base/text.cpp": "#  include <sys/mman.h>\n"}, "kernel is for system/")

    def test_lua_outside_of_where_it_is_allowed(self):
        for name in ("lua.h", "lua.hpp", "lauxlib.h"):
            self.assert_one({"blocks/small.cpp": f"#include <{name}>\n"}, "Lua is for include/")

    def test_a_policy_with_a_clock_or_memory(self):
        for name in ("chrono", "cstdlib", "vector", "mutex"):
            self.assert_one({"policy/growth.h": f"#include <{name}>\n"}, "without a clock, memory or calls")

    def test_an_include_that_names_no_folder(self):
        self.assert_one({"blocks/small.cpp": '#include "small.h"\n'}, "say in which folder it is")

    def test_a_guest_that_takes_more_than_the_one_header(self):
        with tempfile.TemporaryDirectory() as folder:
            alloc = Path(folder) / "alloc"
            guests = {"binding/module.cpp": '#include "state/extras.h"\n#include "state/inside.h"\n#include "memory.h"\n',
                      "bench/op.cpp": '#include "api.h"\n#include "blocks/small.h"\n', "tools/a.cpp": "", "alloc/README.md": README}
            for name, text in guests.items():
                (alloc.parent / name).parent.mkdir(exist_ok=True)
                (alloc.parent / name).write_text(text, encoding="utf-8")
            found = list(layers.violations_of_guests(alloc))
            self.assertEqual(len(found), 1, found)
            self.assertIn("bench/op.cpp:2: it includes blocks/small.h", found[0])

    def test_a_table_that_contradicts_itself_is_refused(self):
        for wrong in (README.replace("| `include/` | nothing | `text.h`", "| `blocks/` | nothing | `text.h`"),
                      README.replace("| idea |", "|"), "no table at all", README.replace("`small.h`", "any")):
            with self.assertRaises(layers.Unreadable):
                self.found(readme=wrong)


if __name__ == "__main__":
    unittest.main()
