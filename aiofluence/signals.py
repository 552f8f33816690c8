"""`aiofluence.run(main())`: `asyncio.run` for programs that rent by the second.

A signal's first coming cancels `main`, so that every session sees its instances gone; the second leaves at
once. Importing the library installs no handler: only this does, and only while it runs.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run `main` in a new event loop and return what it returns.

    Like `asyncio.run`, and SIGTERM (of `kill`, systemd, Docker, Kubernetes) is treated as Ctrl-C is: the
    first one cancels `main`, and sessions wait, at most their `close_timeout`, for what they have to end.
    The second, of either kind, leaves at once and tells on stderr what may still be billing.

    Let a supervisor give the process minutes before SIGKILL: an instance can be ended only once it is ACTIVE.

    Handlers are installed where the program has the default ones, in the main thread only, and are put back.

    Args:
        main: the program.
        debug: asyncio's debug mode; None leaves it to the environment.

    Raises:
        KeyboardInterrupt: after SIGINT; uncaught it ends the process as a shell expects (130).
        SystemExit: with code 143, after SIGTERM.
        BaseException: whatever `main` raises, `CustodyError` among it.
    """
    with asyncio.Runner(debug=debug) as runner:
        signals = _Signals(runner.get_loop())
        with signals:
            try:
                return runner.run(signals.watch(main))
            except asyncio.CancelledError:
                if signals.first is None:
                    raise
        raise _end(signals.first)  # here, so that it has no context


class _Signals:
    """Turns the first signal into a cancellation of the program, the second into leaving."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first: int | None = None
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
        """`main`, in the task that a signal cancels."""
        self._task = asyncio.current_task()
        if self.first is not None:  # it came before we had begun
            main.close()
            raise asyncio.CancelledError
        return await main

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.first is not None:
            raise _end(number)
        self.first = number
        if self._task is not None:
            self._task.cancel()
        self._loop.call_soon_threadsafe(lambda: None)  # wakes a loop that sleeps in select


def _end(number: int) -> BaseException:
    """What ends the program after a signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
