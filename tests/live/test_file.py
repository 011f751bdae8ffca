"""The file of live statistics: what stands in it, and when it comes and goes."""

import errno
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

from host import WithFolder, main, stats_file

MIB = 1 << 20


class Contents(WithFolder):
    def test_the_header_has_the_layout_that_is_promised(self):
        host = self.host()
        host.do("make 1")
        text = (self.folder / str(host.pid)).read_bytes()
        (magic, version, header, record, most, pid, started, schema, schema_size, path, _, program, copied,
         records) = struct.unpack_from("<8s4I2Q4I32s2Q", text)
        self.assertEqual((magic, version, record % 64, most), (b"JLuaStat", 2, 0, 65536))
        self.assertEqual((pid, started), (host.pid, stats_file.start_of(host.pid)[0]))
        self.assertEqual(program.rstrip(b"\0"), b"live_host")
        self.assertEqual(text[path:].split(b"\0")[0].decode(), f"{self.folder}/{host.pid}")
        self.assertAlmostEqual(copied / 1e9, time.time(), delta=60)
        self.assertEqual((len(text), records), (header + record, 1))
        self.assertEqual(set(json.loads(text[schema:schema + schema_size])), {"process", "state"})

    def test_all_statistics_are_those_of_the_state(self):
        host = self.host()
        host.do("make 1")
        host.do("run 1 J = require 'jemalloc' t = {} for i = 1, 3e4 do t[i] = ('x'):rep(i % 3000) end J.heap.limit(1e9)")
        answer = host.do("run 1 local s = {} for k, v in pairs(J.heap.stats()) do s[#s + 1] = k .. '=' .. v end "
                         "error(table.concat(s, ' '), 0)")
        told = dict(pair.split("=") for pair in answer.split())
        shown = self.file(host.pid).read().states[0].values
        self.assertEqual(set(told), set(shown) - {"made"})
        for name in ("front", "limit", "soft_limit", "refusals", "gc_pushes", "arena", "fallbacks"):
            self.assertEqual(str(shown[name]), told[name], name)

    def test_the_file_takes_the_space_of_the_states_and_no_more(self):
        host = self.host()
        host.do("make 1")
        self.assertLessEqual(os.stat(self.folder / str(host.pid)).st_blocks * 512, 128 << 10)

    def test_a_state_is_shown_as_it_grows_and_shrinks(self):
        host = self.host()
        host.do("make 2")
        file = self.file(host.pid)
        begins = file.read().states
        self.assertEqual([state.number for state in begins], [1, 2])
        host.do("run 2 t = {} for i = 1, 1e5 do t[i] = {i} end")
        one, two = file.read().states
        self.assertEqual(one.footprint, begins[0].footprint)
        self.assertGreater(two.live, 8 * MIB)
        self.assertGreaterEqual(two.footprint, two.live)
        self.assertGreaterEqual(two.peak, two.footprint)
        self.assertGreater(two.requests, 1e5)
        self.assertLess(two.requests, 1.2e5)
        host.do("run 2 t = nil collectgarbage() collectgarbage()")
        now = file.read().states[1]
        self.assertLess(now.footprint, 2 * MIB)
        self.assertLess(now.live, 2 * MIB)
        self.assertEqual(now.peak, max(two.peak, now.peak))

    def test_what_a_small_state_has_live_is_shown_too(self):
        host = self.host()
        host.do("make 1")
        live = int(host.do("run 1 error(math.floor(collectgarbage('count')), 0)"))
        shown = self.file(host.pid).read().states[0].live >> 10
        self.assertAlmostEqual(shown, live, delta=8)

    def test_every_front_end_is_shown(self):
        for front in ("slab", "direct", "checked"):
            host = self.host(f"stats_file:{self.folder}/%p,front:{front}")
            host.do("make 1")
            host.do("run 1 t = {} for i = 1, 2e4 do t[i] = {i} end")
            state = self.file(host.pid).read().states[0]
            self.assertEqual(state.front, front)
            self.assertGreater(state.footprint, MIB)
            self.assertGreater(state.requests, 2e4)

    def test_the_footprint_is_right_to_one_part_in_256_and_16_kib(self):
        host = self.host()
        host.do("make 1")
        host.do("run 1 J = require 'jemalloc' t = {} for i = 1, 3e4 do t[i] = ('x'):rep(i % 3000) end")
        answer = host.do("run 1 error(tostring(J.heap.stats().footprint), 0)")
        shown = self.file(host.pid).read().states[0].footprint
        self.assertLessEqual(abs(shown - int(answer)), int(answer) / 256 + (16 << 10))

    def test_limits_and_refusals_are_shown(self):
        host = self.host()
        host.do("make 1")
        host.do(f"limit 1 {4 * MIB}")
        file = self.file(host.pid)
        self.assertEqual(file.read().states[0].limit, 4 * MIB)
        self.assertEqual(host.do("run 1 t = ('x'):rep(1e7)"), "not enough memory")
        state = file.read().states[0]
        self.assertGreater(state.refusals, 0)
        self.assertGreater(state.gc_pushes, 0)
        self.assertLessEqual(state.peak, 4 * MIB)

    def test_a_closed_state_leaves_its_counts_and_its_place(self):
        host = self.host()
        host.do("make 3")
        host.do("run 2 t = {} for i = 1, 1e5 do t[1] = {i} end")
        file = self.file(host.pid)
        host.do("close 2")
        process = file.read()
        self.assertEqual([state.number for state in process.states], [1, 3])
        self.assertEqual((process.states_made, process.states_closed), (3, 1))
        self.assertGreater(process.closed["requests"], 1000)
        host.do("make 1")
        self.assertEqual([state.number for state in file.read().states], [1, 4, 3])

    def test_a_heap_without_a_state_is_shown_without_its_live_bytes(self):
        host = self.host()
        host.do("heap")
        state = self.file(host.pid).read().states[0]
        self.assertIsNone(state.live)
        self.assertGreater(state.footprint, 0)

    def test_a_thousand_states_and_more_find_room(self):
        host = self.host()
        host.do("make 2500")
        file = self.file(host.pid)
        self.assertEqual({state.number for state in file.read().states}, set(range(1, 2501)))
        for number in range(1, 2501, 5):
            host.do(f"close {number}")
        host.do("make 500")
        process = file.read()
        self.assertEqual(len({state.number for state in process.states}), 2500)
        self.assertEqual((process.states_made, process.states_closed, process.states_unlisted), (3000, 500, 0))

    def test_threads_share_out_the_records(self):
        host = self.host()
        host.do("make 2")
        host.do("threads 500")
        process = self.file(host.pid).read()
        self.assertEqual([state.number for state in process.states], [1, 2])
        self.assertEqual((process.states_made, process.states_closed, process.states_unlisted), (2002, 2000, 0))
        used = struct.unpack_from("<Q", (self.folder / str(host.pid)).read_bytes(), 96)[0]
        self.assertLessEqual(used, 2 + 4 * 10)  # those that were closed were used again
        host.do("make 50")
        self.assertEqual(len({state.number for state in self.file(host.pid).read().states}), 52)

    def test_a_reader_never_sees_words_that_do_not_belong_together(self):
        host = self.host()
        host.do("make 1")
        host.do("limit 1 16777216")
        file = self.file(host.pid)
        host.do("turn 1 3000000")
        seen = set()
        while len(seen) < 100 and host.process.poll() is None:
            state = file.read().states[0]
            if not state.torn:
                self.assertEqual(state.soft_limit, state.limit // 5 * 4)
                seen.add(state.limit)
            if state.limit == 3000000 << 24:
                host.do("turn 1 3000000")
        self.assertEqual(len(seen), 100)


class ComingAndGoing(WithFolder):
    def test_there_is_no_file_before_the_first_state(self):
        host = self.host()
        host.do("make 0")
        self.assertEqual(self.files(), [])
        host.do("make 1")
        self.assertEqual(self.files(), [str(host.pid)])

    def test_a_process_that_exits_removes_its_file(self):
        for how in (None, "exit"):
            host = self.host()
            host.do("make 3")
            self.assertEqual(host.end(how), 0)
            self.assertEqual((self.files(), host.errors), ([], ""))

    def test_a_killed_process_leaves_a_file_that_can_be_read(self):
        host = self.host()
        host.do("make 3")
        os.kill(host.pid, signal.SIGKILL)
        host.end()
        process = self.file(host.pid).read()
        self.assertEqual((process.pid, len(process.states)), (host.pid, 3))

    def test_what_a_killed_process_left_is_replaced(self):
        for _ in range(2):
            host = self.host(f"stats_file:{self.folder}/same")
            host.do("make 1")
            self.assertEqual(self.file("same").read().pid, host.pid)
            host.end("_exit")
            self.assertEqual(host.errors, "")

    def test_two_processes_with_one_path_do_not_harm_each_other(self):
        first = self.host(f"stats_file:{self.folder}/same")
        first.do("make 1")
        file = self.file("same")
        second = self.host(f"stats_file:{self.folder}/same")
        second.do("make 1")
        self.assertEqual(first.do("run 1 t = {} for i = 1, 1e5 do t[i] = {i} end"), "ok")
        self.assertGreater(file.read().states[0].footprint, MIB)
        first.end("exit")
        self.assertEqual(self.file("same").read().pid, second.pid)  # the first removes only its own

    def test_a_relative_path_is_in_the_folder_that_the_process_was_started_in(self):
        host = self.host("stats_file:stats-%p", folder=self.folder)
        host.do("make 1")
        self.assertEqual(self.files(), [f"stats-{host.pid}"])

    def test_a_path_with_a_comma_stands_in_quotes(self):
        for quote in "'\"":
            host = self.host(f"limit:8M,stats_file:{quote}{self.folder}/a,b:%p{quote},retain:50")
            host.do("make 1")
            self.assertEqual(self.file(f"a,b:{host.pid}").read().states[0].limit, 8 * MIB)
            host.end()
            self.assertEqual(host.errors, "")


@unittest.skipIf(os.environ.get("LIVE_SANITIZER") == "thread", "ThreadSanitizer can't follow jemalloc's locks into fork()")
class Forks(WithFolder):
    def test_a_child_has_a_file_of_its_own_with_the_states_that_it_got(self):
        host = self.host()
        host.do("make 3")
        host.do("close 2")
        child = int(host.do("fork"))
        self.assertEqual(self.files(), [str(host.pid)])  # not before it has something to show
        host.do("run 3 t = {} for i = 1, 1e5 do t[i] = {i} end")
        host.do("make 1")
        mine, its = self.file(host.pid).read(), self.file(child).read()
        self.assertEqual([state.number for state in mine.states], [1, 3])
        self.assertLess(mine.states[1].footprint, MIB)
        self.assertEqual((its.pid, [state.number for state in its.states]), (child, [1, 4, 3]))
        self.assertGreater(its.states[2].footprint, MIB)
        self.assertEqual((its.states_made, its.states_closed), (3, 0))
        host.do("exit")
        self.assertEqual(self.files(), [str(host.pid)])
        self.assertEqual(host.do("run 1 t = {} for i = 1, 1e5 do t[i] = {i} end"), "ok")
        self.assertGreater(self.file(host.pid).read().states[0].footprint, MIB)

    def test_a_grandchild_has_one_too(self):
        host = self.host()
        host.do("make 1")
        host.do("fork")
        grandchild = int(host.do("fork"))
        host.do("make 1")
        self.assertEqual(len(self.file(grandchild).read().states), 2)

    def test_a_child_leaves_files_alone_that_have_the_numbers_of_its_parents(self):
        host = self.host()
        host.do("make 3")
        mine = self.folder / "mine"
        mine.write_text("not to be closed\n" * 1000)
        self.assertEqual(host.do(f"reuse {mine}"), "ok")
        child = int(host.do("fork"))
        self.assertEqual(host.do("run 1 t = {} for i = 1, 1e5 do t[i] = {i} end"), "ok")
        self.assertEqual(len(stats_file.StatsFile(pid=child).read().states), 3)
        links = [os.readlink(f"/proc/{child}/fd/{number}") for number in os.listdir(f"/proc/{child}/fd")]
        self.assertEqual(links.count(str(mine)), 200)
        host.do("exit")
        self.assertEqual(host.do("run 1 t = {}"), "ok")
        self.assertEqual(mine.read_text(), "not to be closed\n" * 1000)

    def test_without_the_process_id_in_the_path_a_child_has_none_and_leaves_its_parents_alone(self):
        host = self.host(f"stats_file:{self.folder}/one")
        host.do("make 1")
        host.do("fork")
        host.do("make 5")
        host.do("run 1 t = {} for i = 1, 1e5 do t[i] = {i} end")
        process = self.file("one").read()
        self.assertEqual((process.pid, len(process.states)), (host.pid, 1))
        self.assertLess(process.states[0].footprint, MIB)
        host.do("exit")
        self.assertEqual(self.files(), ["one"])


class Harm(WithFolder):
    """Whatever becomes of its file, a process goes on."""

    WORK = "run 1 t = {} for i = 1, 1e5 do t[i] = {i} end t = nil collectgarbage()"

    def goes_on(self, host):
        for _ in range(3):
            self.assertEqual(host.do(self.WORK), "ok")
            self.assertEqual(host.do("make 3"), "ok")
        live = stats_file.StatsFile(pid=host.pid).read()
        self.assertGreater(live.states[0].requests, 3e5)
        self.assertIsNone(live.age)

    def ends_well(self, host):
        self.assertEqual((host.end("exit"), host.errors), (0, ""))

    def test_another_process_truncates_it(self):
        for size in (0, 10, 100, 5000, 1 << 40):
            host = self.host()
            host.do("make 3")
            path = self.folder / str(host.pid)
            os.truncate(path, size)
            self.goes_on(host)
            if size != 10:  # then it is not known for its own any more
                self.assertEqual(len(stats_file.StatsFile(path).read().states), 12)
            self.ends_well(host)

    def test_a_file_that_was_truncated_is_written_again(self):
        host = self.host()
        host.do("make 3")
        path = self.folder / str(host.pid)
        os.truncate(path, 0)
        host.do("make 1")
        host.kill()
        self.assertEqual(len(stats_file.StatsFile(path).read().states), 4)

    def test_another_process_removes_it(self):
        host = self.host()
        host.do("make 3")
        (self.folder / str(host.pid)).unlink()
        self.goes_on(host)
        self.ends_well(host)
        self.assertEqual(self.files(), [])

    def test_another_file_takes_its_place(self):
        host = self.host()
        host.do("make 3")
        path = self.folder / str(host.pid)
        for _ in range(20):  # with the same inode, if the file system uses them again
            path.unlink()
            path.write_text("Dear reader,\n" * 500)
        self.goes_on(host)
        self.ends_well(host)
        self.assertEqual(path.read_text(), "Dear reader,\n" * 500)

    def test_a_folder_or_a_pipe_takes_its_place(self):
        for make in (os.mkdir, os.mkfifo):
            host = self.host()
            host.do("make 3")
            path = self.folder / str(host.pid)
            path.unlink()
            make(path)
            self.goes_on(host)
            self.ends_well(host)
            self.assertTrue(path.exists())

    def test_the_host_closes_all_files_and_opens_its_own(self):
        host = self.host()
        host.do("make 3")
        mine = self.folder / "mine"
        mine.write_text("not to be written\n" * 1000)
        self.assertEqual(host.do(f"reuse {mine}"), "ok")
        for _ in range(3):
            self.assertEqual(host.do(self.WORK), "ok")
            self.assertEqual(host.do("make 3"), "ok")
        self.assertEqual(len(self.file(host.pid).read().states), 12)  # by the file, as the memory is out of sight
        self.ends_well(host)
        self.assertEqual(mine.read_text(), "not to be written\n" * 1000)

    def test_files_may_not_grow_any_more(self):
        host = self.host()
        host.do("make 3")
        resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (0, 0))
        self.goes_on(host)
        self.ends_well(host)

    @unittest.skipUnless(os.geteuid() == 0, "only root can mount a file system")
    def test_its_disk_is_full(self):
        for kind, options in (("tmpfs", "size=64k"), ("btrfs", "loop")):
            if kind != "tmpfs" and shutil.which(f"mkfs.{kind}") is None:
                print(f"mkfs.{kind} is not installed: full disks of that kind are not tested", flush=True)
                continue
            disk = self.folder / kind
            disk.mkdir()
            source = "none"
            if kind != "tmpfs":
                source = self.folder / f"{kind}.image"
                with open(source, "wb") as image:
                    image.truncate(120 * MIB)
                subprocess.run([f"mkfs.{kind}", "-q", source], check=True, capture_output=True)
            mounted = subprocess.run(["mount", "-t", kind, "-o", options, source, disk], capture_output=True, text=True,
                                     check=False)
            if mounted.returncode != 0:
                print(f"a {kind} can't be mounted: {mounted.stderr.strip()}", flush=True)
                continue
            self.addCleanup(subprocess.run, ["umount", "--lazy", disk], check=True)
            host = self.host(f"stats_file:{disk}/%p")
            host.do("make 3")
            os.sync()  # what was written is on the disk, and written again elsewhere on it where that copies
            with open(disk / "big", "wb", buffering=0) as big:
                try:
                    while True:
                        big.write(b"x" * (MIB if kind == "btrfs" else 4096))
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
            os.sync()
            for _ in range(3):
                self.goes_on_and_syncs(host)
            self.ends_well(host)

    def goes_on_and_syncs(self, host):
        self.assertEqual(host.do(self.WORK), "ok")
        self.assertEqual(host.do("make 20"), "ok")
        os.sync()

    def test_standard_streams_that_are_closed_are_not_taken(self):
        host = self.host()
        self.assertEqual(host.do("take 0"), "ok")  # closes 0, makes a state and opens a file
        files = {int(name): os.readlink(f"/proc/{host.pid}/fd/{name}") for name in os.listdir(f"/proc/{host.pid}/fd")}
        self.assertEqual(files[0], "/dev/null")
        self.assertGreaterEqual(next(n for n, link in files.items() if "memfd:jemalloc_lua" in link), 3)


class BadPaths(WithFolder):
    def refused(self, path, why):
        host = self.host(f"stats_file:{path}")
        self.assertEqual(host.do("make 2"), "ok")
        self.assertEqual(host.do("run 2 assert(#('x'):rep(1e6) == 1e6)"), "ok")
        self.assertEqual(host.end(), 0)
        self.assertEqual(len(host.errors.splitlines()), 1, host.errors)
        self.assertIn(f"stats_file: {path}: {why}", host.errors)

    def test_one_line_says_what_is_wrong_and_the_host_goes_on(self):
        self.refused(f"{self.folder}/none/file", "No such file or directory")
        self.refused(f"{self.folder}", "it is there, and no regular file")
        self.refused("/dev/null", "it is there, and no regular file")
        self.refused(f"{self.folder}/{'x' * 300}", "File name too long")

    def test_a_file_of_another_kind_is_not_replaced(self):
        other = self.folder / "letter"
        other.write_text("Dear reader,\n")
        self.refused(other, "it is there, and no file of statistics")
        self.assertEqual(other.read_text(), "Dear reader,\n")

    def test_a_limit_on_the_sizes_of_files_is_told_and_does_not_kill(self):
        host = self.host()
        resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        self.assertEqual(host.do("make 1"), "ok")
        self.assertEqual(host.end(), 0)
        self.assertIn("File too large", host.errors)
        self.assertEqual(len(host.errors.splitlines()), 1)

    def test_where_there_can_be_no_shared_memory_the_file_tells(self):
        host = self.host()
        resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
        self.assertEqual(host.do("make 2"), "ok")
        self.assertEqual(host.do("run 2 t = {} for i = 1, 1e5 do t[i] = {i} end"), "ok")
        process = self.file(host.pid).read()
        self.assertGreater(process.states[1].footprint, 4 * MIB)
        self.assertLess(process.age, 60)
        self.assertEqual(host.end(), 0)
        self.assertEqual((self.files(), host.errors), ([], ""))

    def test_what_is_no_path_is_told_by_the_parser(self):
        for conf, why in (("stats_file:", "'' is not valid; it takes a path"),
                          ("stats_file:'/tmp/x", "not a value in quotes"),
                          ("stats_file:'/tmp/x'y", "not a value in quotes")):
            host = self.host(conf)
            self.assertEqual(host.do("make 1"), "ok")
            host.end()
            self.assertEqual(len(host.errors.splitlines()), 1)
            self.assertIn(why, host.errors)


main()
