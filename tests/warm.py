"""Python programs in processes of their own that start at once: forked from one that has imported what they need.

Importing PyTorch and Lightning takes longer than most of what is tested with them.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pairsift.cli", "pairsift.scanning", "pairsift.train", "lightning", "torch.distributed"],
)


class Program:
    """`python *arguments` under way: -c and code, -m and a module, or a file, and what they are given.

    Args:
        arguments: of Python.
        environment: variables beside this process's own.
    """

    def __init__(self, *arguments, **environment):
        pipes = [CONTEXT.Pipe(duplex=False) for _ in range(2)]
        self._said = [_Heard(reader) for reader, _ in pipes]
        writers = [writer for _, writer in pipes]
        told = os.environ | environment
        self._process = CONTEXT.Process(
            target=_main, args=([str(each) for each in arguments], told, os.getcwd(), writers)
        )
        self._process.start()
        self.pid = self._process.pid
        for writer in writers:
            writer.close()

    @property
    def stdout(self):
        """What it has said so far."""
        return self._said[0].text()

    @property
    def stderr(self):
        """What it has said so far of what is not its result."""
        return self._said[1].text()

    @property
    def returncode(self):
        """None while it runs, negative after a signal."""
        return self._process.exitcode

    def send_signal(self, number):
        """To this process alone."""
        os.kill(self.pid, number)

    def kill(self):
        """At once."""
        self._process.kill()

    def wait(self, timeout=120):
        """Its exit code, when all has been heard."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout, self.stdout, self.stderr)
        for each in self._said:
            each.join(timeout)
        return self.returncode


class _Heard(threading.Thread):
    """What comes out of a pipe until everybody has closed it."""

    def __init__(self, reader):
        super().__init__(daemon=True)
        self._reader, self._parts = reader, []
        self.start()

    def run(self):
        while part := os.read(self._reader.fileno(), 1 << 16):
            self._parts.append(part)

    def text(self):
        return b"".join(self._parts).decode(errors="replace")  # the last letter may be half here


def run(*arguments, timeout=120, **environment):
    """A program that has ended."""
    program = Program(*arguments, **environment)
    program.wait(timeout)
    return program


def _main(arguments, environment, folder, writers):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    for stream, writer in enumerate(writers, 1):
        os.dup2(writer.fileno(), stream)
        writer.close()
    kind, *rest = arguments
    if kind == "-c":
        sys.argv = [kind, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")
