"""`aiofluence.run(main())`: `asyncio.run` for programs that rent instances.

The first Ctrl-C, SIGTERM or SIGHUP cancels `main`, so that every session can end its instances. The second
leaves at once. Importing the library installs no handler. Only `run` does, and only while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

_HANG_UP: Final[int | None] = getattr(signal, "SIGHUP", None)
"""Signal of a closed terminal or a lost ssh connection. None on Windows, which has no such signal."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, *([] if _HANG_UP is None else [_HANG_UP]))
_ONE_HANG_UP: Final = 1.0
"""Seconds. A closing terminal sends SIGHUP up to three times, and systemd sends SIGTERM with it."""


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run `main` in a new event loop and return its result.

    Like `asyncio.run`, but SIGTERM (of `kill`, systemd, Docker, Kubernetes) and SIGHUP (of a closed terminal
    or a lost ssh connection) have the same effect as Ctrl-C. The first signal cancels `main`. Sessions then
    wait, at most their `close_timeout`, for the instances that they have to end. The second signal leaves at
    once, and reports on stderr what may still be billing. Further SIGHUPs do not count as a second signal,
    because a terminal sends several.

    An instance can be ended only once it is ACTIVE, so let a supervisor wait minutes before SIGKILL.

    Handlers are installed only in the main thread, and only where the program has the default handlers. They
    are restored afterwards. Under `nohup`, SIGHUP stays ignored. Output to a closed terminal is dropped. A
    forked child handles signals as it would without this function.

    Args:
        main: coroutine of the program.
        debug: asyncio's debug mode; None leaves it to the environment.

    Raises:
        KeyboardInterrupt: after SIGINT. Uncaught, it ends the process as a shell expects (130).
        SystemExit: with code 143 after SIGTERM, 129 after SIGHUP.
        BaseException: any exception of `main`, such as `CustodyError`.
    """
    with asyncio.Runner(debug=debug) as runner:
        signals = _Signals(runner.get_loop())
        with signals:
            try:
                return runner.run(signals.watch(main))
            except asyncio.CancelledError:
                if signals.first is None:
                    raise
        raise _end(signals.first)  # outside `except`, so that it has no context


class _Signals:
    """Signal handlers: the first signal cancels the program, the second leaves at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first: int | None = None
        self._came = 0.0
        self._process = os.getpid()
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = before
                    signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    async def watch(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` in the task that a signal cancels."""
        self._task = asyncio.current_task()
        if self.first is not None:  # the signal arrived before the task started
            main.close()
            raise asyncio.CancelledError
        return await main

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        if number == _HANG_UP:
            _drop_output()
        if self.first is not None:
            if number == _HANG_UP or (self.first == _HANG_UP and self._is_one_hang_up()):
                return
            raise _end(number)
        self.first = number
        self._came = self._loop.time()
        if self._task is not None:
            self._task.cancel()
        self._loop.call_soon_threadsafe(lambda: None)  # wakes a loop that waits in select

    def _is_one_hang_up(self) -> bool:
        return self._loop.time() - self._came < _ONE_HANG_UP


def _end(number: int) -> BaseException:
    """Return the exception that ends the program after a signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _drop_output() -> None:
    """Drop the output to a closed terminal, where every write in a clean-up would raise EIO."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or no stream at all
            number = stream.fileno()  # type: ignore[union-attr]
            try:
                os.write(number, b"")
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
