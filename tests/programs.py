"""Programs of tests, each in a process of its own that need not import the library again.

Importing the library and aiohttp takes more CPU time than most programs of tests. On Linux each program is
therefore a fork of one process that has imported both. Elsewhere it is a new interpreter. Tests of the
interpreter's start, of its environment and of imports use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parent.parent
IMPORTED = (
    "aiofluence.cli.app",
    "aiofluence.cli.commands.deploy",
    "aiofluence.cli.runner",
    "aiofluence.session",
    "aiofluence.simulator",
    "aiofluence.sync",
    "tests.harness",
    "tests.journals",
)
STREAMS = ("stdin", "stdout", "stderr")


class Program(subprocess.Popen[str]):
    """A running program in Python.

    Args:
        code: source of the program, as after `python -c`.
        arguments: its arguments.
        warnings: action for all warnings, as after `python -W`; empty for Python's own.
        closed: numbers of the standard streams that are closed, as by `>&-`.
        options: `stdin`, `stdout`, `stderr`, `cwd` and `env` as of `Popen`. A stream is a pipe by default.
    """

    def __init__(
        self, code: str, *arguments: str, warnings: str = "", closed: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._order: dict[str, Any] = {"code": code, "arguments": arguments}
        self._order |= {"warnings": warnings, "closed": closed}
        self._reports: socket.socket | None = None
        for number, name in enumerate(STREAMS):
            options.setdefault(name, None if number in closed else subprocess.PIPE)
        flags = ["-W", warnings] if warnings else []
        command = [sys.executable, *flags, "-c", code, *arguments]
        if sys.platform != "linux" and closed:
            options["preexec_fn"] = lambda: [os.close(number) for number in closed]
        super().__init__(command, text=True, **options)

    if sys.platform == "linux":
        # Popen's own three steps from a command to an exit code, the same in Python 3.11 to 3.14.

        def _execute_child(self, *given: Any) -> None:
            cwd, env, pipes = given[5], given[6], given[10:16]
            order = {"cwd": str(Path(cwd or ".").absolute()), "env": dict(os.environ if env is None else env)}
            message = json.dumps(self._order | order).encode()
            theirs = (pipes[0], pipes[3], pipes[5])
            streams = [pipe if pipe != -1 else number for number, pipe in enumerate(theirs)]
            sent = [stream for number, stream in enumerate(streams) if number not in self._order["closed"]]
            self._reports, reports = socket.socketpair(type=socket.SOCK_SEQPACKET)
            with reports:
                socket.send_fds(_forks(), [message], [reports.fileno(), *sent])
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
            self.pid = int(self._reports.recv(20))
            self._child_created = True

        def _internal_poll(self, *_: Any, **__: Any) -> int | None:
            return self._ended_within(0)

        def _wait(self, timeout: float | None) -> int:
            if (code := self._ended_within(timeout)) is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            return code

        def _ended_within(self, seconds: float | None) -> int | None:
            if self._reports is not None and select.select([self._reports], [], [], seconds)[0]:
                with self._reports:
                    self.returncode = int(self._reports.recv(20))
                self._reports = None
            return self.returncode


def run_program(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a `Program` to its end. Its stdin is empty."""
    timeout = options.pop("timeout", None)
    with Program(code, *arguments, **options) as program:
        try:
            out, err = program.communicate(timeout=timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


@functools.cache
def _forks() -> socket.socket:
    """Start the process that forks, and return the socket of its orders. It ends with this process."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        code = f"from tests.programs import serve\nexec(serve({theirs.fileno()}))"
        command = [sys.executable, "-c", code]
        null = subprocess.DEVNULL
        # A session of its own: Ctrl-C on the terminal of the tests is for the tests.
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=null, stdout=null, pass_fds=[theirs.fileno()], start_new_session=True
        )
    atexit.register(_end, ours, process)
    return ours


def _end(orders: socket.socket, process: subprocess.Popen[bytes]) -> None:
    orders.close()
    process.wait()


def serve(number: int) -> CodeType:
    """Fork for each order. Only the forks return, each with its program, to be run as `__main__`."""
    sys.path.insert(1, str(ROOT))
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    orders = socket.socket(fileno=number)
    while True:
        message, numbers, _, _ = socket.recv_fds(orders, 1 << 20, 4)
        if not message:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()
            os._exit(0)
        if not os.fork():
            orders.close()
            reports = socket.socket(fileno=numbers.pop(0))
            if not (pid := os.fork()):
                reports.close()
                return _begin(numbers, **json.loads(message))
            _report_end(pid, reports, numbers)
        for number in numbers:
            os.close(number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # the forks that have reported an end
                pass


def _report_end(pid: int, reports: socket.socket, numbers: list[int]) -> None:
    """Report the id of the program's process now, and later its exit code. Do not return."""
    for number in numbers:
        os.close(number)
    reports.send(b"%d" % pid)
    reports.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _begin(
    numbers: list[int],
    *,
    code: str,
    arguments: list[str],
    warnings: str,
    closed: list[int],
    cwd: str,
    env: Mapping[str, str],
) -> CodeType:
    """Make this process look like a new interpreter, and return its program."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for stream, name in enumerate(STREAMS):
        if stream in closed:
            os.close(stream)
            file = None
        else:
            os.dup2(number := numbers.pop(0), stream)
            os.close(number)
            errors = "backslashreplace" if name == "stderr" else "strict"
            mode, by_line = "w" if stream else "r", stream == 2 or (stream == 1 and os.isatty(1))
            file = open(  # noqa: SIM115  (for the life of the process)
                stream, mode, 1 if by_line else -1, encoding="utf-8", errors=errors, closefd=False
            )
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    sys.argv = ["-c", *arguments]
    if warnings:
        _filter_warnings(warnings)
    return compile(code, "<string>", "exec")


def _filter_warnings(action: Any) -> None:
    warnings.resetwarnings()
    warnings.simplefilter(action)
