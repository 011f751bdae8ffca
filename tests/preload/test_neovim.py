"""Neovim headless, as the packages bring it, running Lua under the shim."""

import shutil
import tempfile
import unittest

from support import main, need, run, under_shim

need("neovim is not installed", shutil.which("nvim"))


def nvim(*commands, shim=True, options=()):
    with tempfile.TemporaryDirectory(prefix="jemalloc_lua-nvim-") as folder:
        command = ["env", f"HOME={folder}", f"XDG_STATE_HOME={folder}", "nvim", "--headless", "-u", "NONE", "-i", "NONE"]
        for each in commands:
            command += ["-c", each]
        command += ["-c", "q"]
        return under_shim(*command, options=options) if shim else run(*command)


# Lua that works with the editor: lines go into a buffer, are changed there by a pattern, and come back.
EDIT = """lua local lines = {}
for i = 1, 20000 do lines[i] = "line " .. i end
vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
vim.cmd("%s/line/row/")
local sum = 0
for _, line in ipairs(vim.api.nvim_buf_get_lines(0, 0, -1, false)) do sum = sum + line:match("^row (%d+)$") end
vim.cmd("bwipeout!")
io.stdout:write(sum, "\\n")""".replace("\n", " ")


class Neovim(unittest.TestCase):
    def test_it_prints_what_it_prints_without_the_shim(self):
        command = "lua print(#vim.fn.range(1e5))"
        plain, ours = nvim(command, shim=False), nvim(command)
        self.assertEqual((ours.returncode, ours.stdout, ours.stderr),
                         (plain.returncode, plain.stdout, plain.stderr))
        self.assertIn("100000", ours.stdout + ours.stderr)

    def test_its_state_is_in_the_statistics(self):
        done = nvim("lua print(1)", options=["--stats"])
        self.assertRegex(done.stderr, r"jemalloc_lua: process \d+ \(nvim\): 1 states open")
        self.assertRegex(done.stderr, r"(?m)^ +1 +slab ")

    def test_it_finds_the_module_jemalloc_and_its_own_heap(self):
        done = nvim("lua io.stdout:write(tostring(require('jemalloc').heap.stats().footprint > 1e6))")
        self.assertIn("true", done.stdout)

    def test_lua_edits_a_buffer(self):
        self.assertIn("200010000", nvim(EDIT).stdout)

    def test_a_limit_is_an_error_that_the_editor_survives(self):
        done = nvim("lua pcall(function() local t = {} while true do t[#t + 1] = {} end end) "
                    "io.stdout:write('alive')", options=["--conf", "limit:32M"])
        self.assertIn("alive", done.stdout)


main()
