"""nginx with its Lua module, as the packages bring it: an unmodified server under the shim, on loopback."""

import concurrent.futures
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from support import ROOT, WITH_JEMALLOC, environment, main, need, resident, run

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
MODULES = Path("/usr/lib/nginx/modules")
TOP, METRICS = str(ROOT / "tools" / "top"), str(ROOT / "tools" / "metrics")
need("nginx is not installed", NGINX)
need("nginx's Lua module is not installed", (MODULES / "ngx_http_lua_module.so").exists())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s until {what}")
        time.sleep(0.02)


class Server:
    """A running nginx in a folder of its own."""

    def __init__(self, shim=True, code_cache=True, options=()):
        self.folder = Path(tempfile.mkdtemp(prefix="jemalloc_lua-nginx-"))
        self.port = free_port()
        conf = (Path(__file__).parent / "nginx.conf").read_text(encoding="ascii")
        for name, value in (("DIRECTORY", self.folder), ("PORT", self.port),
                            ("CODE_CACHE", "on" if code_cache else "off")):
            conf = conf.replace(name, str(value))
        (self.folder / "nginx.conf").write_text(conf, encoding="ascii")
        command = [NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        if shim:
            command = [WITH_JEMALLOC, *options, "--", *command]
        with open(self.folder / "stderr", "wb") as stderr:
            self.master = subprocess.Popen(command, stderr=stderr, env=environment())
        wait_until(self.answers, "nginx answers")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.master.poll() is None:
            self.quit()
        shutil.rmtree(self.folder)

    def quit(self):
        self.master.send_signal(signal.SIGQUIT)
        try:
            self.master.wait(20)
        except subprocess.TimeoutExpired:
            self.master.kill()
            self.master.wait()

    def answers(self):
        if self.master.poll() is not None:
            raise AssertionError(f"nginx ended: {self.stderr()}{self.log()}")
        try:
            return len(self.workers()) >= 2 and self.get("/sum?n=1") == "1"
        except OSError:
            return False

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return response.read().decode()

    def workers(self):
        try:
            with open(f"/proc/{self.master.pid}/task/{self.master.pid}/children", encoding="ascii") as children:
                return set(map(int, children.read().split()))
        except FileNotFoundError:
            return set()

    def log(self):
        path = self.folder / "error.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def stderr(self):
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def complaints(self, expected="^$"):
        """Lines of the log that say that something is wrong, but for those that are expected."""
        lines = re.findall(r".*\[(?:warn|error|crit|alert|emerg)\].*", self.log())
        return [line for line in lines if not re.search(expected, line)]

    def load(self, requests):
        """Sends requests from four clients; the number of right answers."""
        def one(i):
            n = 100 + i % 400
            return self.get(f"/sum?n={n}") == str(n * (n + 1) * (2 * n + 1) // 6)

        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            return sum(clients.map(one, range(requests)))


class Nginx(unittest.TestCase):
    def test_workers_have_our_states_and_answer_right(self):
        with Server() as server:
            self.assertEqual(server.load(400), 400)
            states = dict(server.get("/state").split() for _ in range(40))
            self.assertEqual(set(states.values()), {"ours"})
            self.assertLessEqual(set(map(int, states)), server.workers())
            wait_until(lambda: int(server.get("/counter?name=ticks")) > 2, "timers run")
            server.quit()
            self.assertEqual((server.master.returncode, server.complaints(), server.stderr()), (0, [], ""))

    def test_reload_under_load(self):
        with Server() as server, concurrent.futures.ThreadPoolExecutor(1) as background:
            answers = background.submit(server.load, 1200)
            for _ in range(3):
                before = server.workers()
                server.master.send_signal(signal.SIGHUP)
                wait_until(lambda: len(server.workers()) == 2 and not server.workers() & before,
                           "the old workers are gone")
            self.assertEqual(answers.result(), 1200)
            self.assertTrue(server.get("/state").endswith(" ours"))
            self.assertEqual((server.complaints(), server.stderr()), ([], ""))

    def test_a_killed_worker_comes_back_with_our_state(self):
        with Server() as server:
            before = server.workers()
            for worker in before:
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: len(server.workers() - before) == 2, "new workers run")
            self.assertEqual(server.load(100), 100)
            self.assertTrue(server.get("/state").endswith(" ours"))
            self.assertEqual(server.complaints(expected="exited on signal 9"), [])

    def test_each_worker_shows_its_states_live(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)  # where nginx is started by root, its workers are another user's
            with Server(options=["--conf", f"stats_file:{folder}/%p"]) as server:
                for code in ("first", "after a reload"):
                    before = server.workers()
                    self.assertEqual(server.load(400), 400)
                    busy = {int(server.get("/state").split()[0]) for _ in range(40)}
                    for worker in busy:
                        title, _, *rows = run(TOP, str(worker)).stdout.splitlines()
                        self.assertIn(f"nginx ({worker}): ", title, code)
                        self.assertGreater(len(rows), 0, code)
                        self.assertIn(f'jemalloc_lua_states{{pid="{worker}",program="nginx"}}',
                                      run(METRICS, str(worker)).stdout)
                    server.master.send_signal(signal.SIGHUP)
                    wait_until(lambda: len(server.workers()) == 2 and not server.workers() & before,
                               "the old workers are gone")
                server.quit()
                self.assertEqual((server.complaints(), server.stderr()), ([], ""))
            self.assertEqual(os.listdir(folder), [])

    def test_a_state_for_each_request_without_code_cache(self):
        with Server(code_cache=False) as server:
            self.assertEqual(server.load(200), 200)
            before = sum(map(resident, server.workers()))
            self.assertEqual(server.load(600), 600)
            after = sum(map(resident, server.workers()))
            self.assertLess(after - before, 12, "MiB more for 600 states that came and went")
            self.assertEqual(server.complaints(expected="lua_code_cache is off"), [])

    def peak(self, shim):
        """How many MiB more than before a worker holds a second after a page of 200 MB."""
        with Server(shim=shim) as server:
            server.load(100)
            before = {worker: resident(worker) for worker in server.workers()}
            worker, live = map(int, server.get("/peak").split())
            time.sleep(1)
            growth = resident(worker) - before[worker]
            print(f"{'with' if shim else 'without'} the shim: a worker of {before[worker]:.1f} MiB holds "
                  f"{growth:.1f} MiB more after a page of 200 MB, {live} MB of them live", flush=True)
            return growth

    def test_memory_falls_after_a_peak(self):
        # LuaJIT's own allocator holds 37 to 165, as its addresses fall.
        self.assertTrue(any(self.peak(shim=False) > 100 for _ in range(6)))
        self.assertLess(self.peak(shim=True), 12)


main()
