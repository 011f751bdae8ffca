"""Interactive mode as a person has it: on a terminal."""

import os
import pty
import select
import signal
import subprocess
import time
import unittest

from command import OURS, environment, main, pty_is_missing


class Terminal:
    """The command on a pseudo-terminal; what it writes is collected in `seen`."""

    def __init__(self, *args):
        self.side, other = pty.openpty()
        self.process = subprocess.Popen([OURS, *args], stdin=other, stdout=other, stderr=other,
                                        env=environment(), start_new_session=True)
        os.close(other)
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.side)

    def wait_for(self, text, seconds=60):
        """Reads until text is seen; returns all up to its end, and forgets that."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            if not select.select([self.side], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} is not in {self.seen!r}")
            try:
                self.seen += os.read(self.side, 4096).decode(errors="replace")
            except OSError as error:  # the other side is closed
                raise AssertionError(f"{text!r} is not in {self.seen!r}") from error
        head, self.seen = self.seen.split(text, 1)
        return head + text

    def type(self, text):
        os.write(self.side, text.encode())


@unittest.skipIf(pty_is_missing(), pty_is_missing())
class Interactive(unittest.TestCase):
    def test_without_a_script_on_a_terminal(self):
        with Terminal() as terminal:
            terminal.wait_for("LuaJIT")
            terminal.wait_for("JIT: O")
            terminal.wait_for("> ")
            terminal.type("=6*7\n")
            terminal.wait_for("42\r\n")
            terminal.wait_for("> ")
            terminal.type("for i=1,2 do\n")
            terminal.wait_for(">> ")
            terminal.type("print('n'..i) end\n")
            terminal.wait_for("n1\r\nn2\r\n")
            terminal.wait_for("> ")  # before the prompt the terminal would swallow the end of file
            terminal.type("\x04")
            self.assertEqual(terminal.process.wait(timeout=60), 0)

    def test_ctrl_c_stops_the_chunk_and_not_the_session(self):
        with Terminal() as terminal:
            terminal.wait_for("> ")
            # A sanitizer holds signals back until the next call of the C library.
            terminal.type("jit.off() io.write('ru', 'nning\\n') while true do io.write('') end\n")
            terminal.wait_for("running\r\n")
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for("interrupted!")
            terminal.wait_for("> ")
            terminal.type("='still' .. 'here'\n")
            terminal.wait_for("stillhere")

    @unittest.skipIf(os.environ.get("JEMALLOC_LUA_SANITIZE") == "thread",
                     "ThreadSanitizer holds the signal back for as long as readline waits")
    def test_ctrl_c_at_the_prompt_ends_the_session(self):
        with Terminal() as terminal:
            terminal.wait_for("> ")
            terminal.process.send_signal(signal.SIGINT)
            self.assertEqual(terminal.process.wait(timeout=60), -signal.SIGINT)


if __name__ == "__main__":
    main()
