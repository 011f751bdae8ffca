"""jemalloc-luajit does what luajit does: the same output, the same messages, the same exit code."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import unittest

from command import LUAJIT, OURS, Outcome, environment, main, nameless, run

FILES = {
    "args.lua": "print(#arg, ...) for i = -9, 9 do if arg[i] then print(i, arg[i]) end end",
    "fails.lua": "local function f() error('from f') end\nlocal function g() f() end\ng()\n",
    "syntax.lua": "print('never')\nfor for\n",
    "hello.lua": "print('hello', ...)\nreturn 1, 2, 3\n",
    "mod.lua": "print('mod loaded as', ...) return {}\n",
    "shebang.lua": "#!/usr/bin/env luajit\nprint('shebang')\n",
    "failing_mod.lua": "error('module fails')\n",
    "init.lua": "print('init file')\n",
    "hot.lua": "local s = 0 for i = 1, 1000 do s = s + i end print(s)\n",
    "list.lua": "local t = {}\nfor i = 1, 3 do t[i] = i * i end\nreturn t\n",
    "jit/mine.lua": "return { start = function(...) print('mine', select('#', ...), ...) end }\n",
    "jit/useless.lua": "return {}\n",
    "jit/broken.lua": "error('broken add-on')\n",
}

# Command lines, as a shell splits them.
PLAIN = """
-v
-v -v
-e print(1)
-eprint(2)
-e print(1) -e print(2)
-e "error('x')"
-e error()
-e error(nil)
-e error({})
-e "error(setmetatable({},{__tostring=function()return'told'end}))"
-e error(setmetatable({},{__tostring=function()return{}end}))
-e local
-e for
-e x=
-e return
-e os.exit(7)
-e os.exit(true)
-e os.exit(false)
-e os.exit(3,true)
-e "io.stderr:write('e') io.write('o')"
-e print(...)
-e "print(arg[0],arg[-1],arg[-2],arg[-3],#arg)"
-e "print(collectgarbage('count')>0)"
-e "print(package.path) print(package.cpath)"
-e "string.rep('x',-1)()"
-e "local t={} t.x.y=1"
-e "coroutine.wrap(function()error('in coroutine')end)()"
-e print(jit.version,jit.os,jit.arch)
-e "local function f()return f()+1 end f()"
-e "print(debug.traceback('t'))"
-E -e print(1)
-Eanything -e print(1)
-l mod -e print(2)
-lmod
-l string
-l no.such.module
-l failing_mod
-l mod -l mod
-i -v
hello.lua
hello.lua a b c
hello.lua -e x
hello.lua --jemalloc
args.lua
args.lua a b
args.lua a -b -- -
-v args.lua a
-e x=1 args.lua a
-e "arg={'p','q'}" hello.lua a
-e arg=nil hello.lua a
-e arg=5 hello.lua a
-e "arg[1]='changed'" hello.lua a b
-- args.lua a
-- -e
-e print(1) --
-e print(1) -- hello.lua a
no-such-file.lua
fails.lua
syntax.lua
shebang.lua
./hello.lua
-e "error('first')" hello.lua
-l no.such hello.lua
-j off -e print((jit.status()))
-joff -e print((jit.status()))
-jon -e print((jit.status()))
-j flush
-jmine
-j mine=a,b,,c
-jmine=
-jmine=,
-jmine=a,
-juseless
-jbroken
-jnothing
-joff=1
-O -e print(1)
-O3 -e print(1)
-O0 -jv hot.lua
-Ohotloop=10,maxtrace=50 hot.lua
-O-fold,+cse hot.lua
-Onothing
-Ohotloop=x
-jv hot.lua
-jv=trace.txt hot.lua
-jdump=i hot.lua
-jdump=b hot.lua
-bl list.lua
-b -l list.lua
-b -l -e print(1)
-bg list.lua out.lua
-bt lua list.lua out2.lua
-b list.lua -
-b
-b no-such-file.lua out.raw
-bl no-such-file.lua
-bl syntax.lua
-b -n name list.lua out.c
-b --nothing
-O2 -bl list.lua
""".strip().splitlines()

# Command lines that luajit answers with its usage text, which differs in our own options alone.
USAGE = ["-x", "-e", "-l", "-vv", "-ii", "--nothing", "-h", "-?", "-e print(1) -q", "-j",
         "-E -bl list.lua", "-e x=1 -bl list.lua", "-v -bl list.lua", "-l mod -b list.lua"]

# Command line, stdin.
PIPED = [
    ("", "print('from stdin', ...)"),
    ("", "error('in stdin')"),
    ("", "syntax error"),
    ("", ""),
    ("-", "print('dash', ...)"),
    ("- a b", "print('dash', ..., arg[0], #arg)"),
    ("-", "error('in dash')"),
    ("-- -", "print('a file called -')"),
    ("-e print(1)", "print('not run')"),
    ("-v", "print('not run')"),
    ("-e print(1) -", "print('run')"),
    ("-i", "=1+1\n=nil\n=1,2\nx=5\nprint(x)\n"),
    ("-i", "for i=1,2 do\nprint(i)\nend\n=[[a\nb]]\n"),
    ("-i", "error('e')\n=1\n"),
    ("-i", "local x = = 2\n=2\n"),
    ("-i", "print(\n"),
    ("-i", "_PROMPT='? '\n_PROMPT2='?? '\nfunction f()\nend\n"),
    ("-i", "print=nil\n=1\n"),
    ("-i", "print=function()error('no')end\n=1\n"),
    ("-i", "error({})\nerror()\n"),
    ("-i", "os.exit(9)\n"),
    ("-i", "no newline at the end"),
    ("-i", "\n\n=\n"),
    ("-i", "=io.read()\nthe line\n=2\n"),
    ("-i hello.lua a", "=...\n=arg[1]\n"),
    ("-i fails.lua", "print('not reached')\n"),
    ("-i -e x=4", "=x\n"),
    ("-i no-such-file.lua", "=1\n"),
    ("-i -jmine=1", "=1\n"),
]

# LUA_INIT, command line.
INIT = [
    ("print('init')", "-e print(1)"),
    ("@init.lua", "-e print(1)"),
    ("@no-such-file.lua", "-e print(1)"),
    ("error('in init')", "-e print(1)"),
    ("syntax error", "hello.lua"),
    ("arg[1]='from init'", "hello.lua a b"),
    ("print('init')", "-E -e print(1)"),
    ("print('init')", "-v"),
    ("print('init')", "-bl list.lua"),
    ("", "-e print(1)"),
]


class AsLuajit(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        for name, text in FILES.items():
            path = os.path.join(cls.folder.name, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def both(self, args, stdin="", **env):
        return [nameless(run(*args, program=program, stdin=stdin, cwd=self.folder.name, **env), program)
                for program in (LUAJIT, OURS)]

    def check(self, text, stdin="", **env):
        with self.subTest(args=text, stdin=stdin, **env):
            theirs, ours = self.both(shlex.split(text), stdin, **env)
            self.assertEqual(theirs, ours)

    def test_command_lines(self):
        for text in PLAIN:
            self.check(text)

    def test_chunks_of_many_words(self):
        for chunk in ["for i = 1, 3 do print(i) end", "local x = 1 error('y', 0)", "x = 1\ny = = 2", ""]:
            theirs, ours = self.both(["-e", chunk])
            self.assertEqual(theirs, ours)

    def test_the_empty_word_is_a_file_name(self):
        theirs, ours = self.both([""])
        self.assertEqual(theirs, ours)

    def test_two_hundred_arguments(self):
        theirs, ours = self.both(["hello.lua", *map(str, range(200))])
        self.assertEqual(theirs, ours)

    def test_usage(self):
        for text in USAGE:
            with self.subTest(args=text):
                theirs, ours = self.both(shlex.split(text))
                self.assertEqual(theirs.out, ours.out)
                self.assertEqual(theirs.code, ours.code)
                # Tarantool's has an option of its own, for its tools.
                self.assertEqual([line for line in theirs.err.splitlines() if not line.startswith("  -t<cmd>")],
                                 [line for line in ours.err.splitlines() if "--jemalloc" not in line])

    def test_standard_input(self):
        for text, stdin in PIPED:
            self.check(text, stdin)

    def test_lua_init(self):
        for init, text in INIT:
            self.check(text, LUA_INIT=init)

    def test_lua_path(self):
        for text in ["-e print(package.path)", "-E -e print(package.path)"]:
            self.check(text, LUA_PATH="/nowhere/?.lua;;")

    def test_saved_bytecode_runs(self):
        theirs, ours = self.both(["-b", "hello.lua", "hello.out"])
        self.assertEqual(theirs, ours)
        self.check("hello.out a b")

    def test_profiler(self):
        for text in ["-jp=f,profile.txt hot.lua", "-jp=v,profile.txt hot.lua"]:
            self.check(text)

    def test_interrupt(self):
        loop = "jit.off() io.write('ready\\n') io.flush() while true do end"
        caught = "print(pcall(function() " + loop + " end))"
        for chunk in (loop, caught):
            outcomes = []
            for program in (LUAJIT, OURS):
                with subprocess.Popen([program, "-e", chunk], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, env=environment()) as process:
                    first = process.stdout.readline()
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=60)
                    outcomes.append(nameless(Outcome(first + out, err, process.returncode), program))
            self.assertEqual(outcomes[0], outcomes[1])
            self.assertIn("interrupted!", outcomes[1].out + outcomes[1].err)


def same_luajit():
    probe = "print(jit.version, package.path, table.nkeys ~= nil)"
    return LUAJIT and run("-e", probe, program=LUAJIT) == run("-e", probe)


if __name__ == "__main__":
    if not same_luajit():
        print("skipped: there is no luajit command of the LuaJIT that jemalloc-luajit is built on")
        sys.exit(77)
    main()
