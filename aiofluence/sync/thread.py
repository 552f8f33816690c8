"""An event loop in a thread of its own, which never keeps the interpreter from ending.

Knows no session and no verb. The thread is a daemon: what must be done before the program ends is `door`'s to
wait for, and not the interpreter's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Final

PATIENCE: Final = 3.0
"""Seconds in which the event loop must answer; longer, and something that it called blocks it."""


class LoopThread:
    """One thread with one event loop, from `start` to `stop`."""

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="aiofluence", daemon=True)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in this thread."""
        return self._thread.ident == threading.get_ident()

    @property
    def is_running(self) -> bool:
        """Whether the thread was started, and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, and wait until its event loop runs.

        Raises:
            OSError: there is no event loop to be had, such as for want of file descriptors.
        """
        self._thread.start()
        self._loop.result()

    def submit(self, function: Callable[[], object]) -> None:
        """Call `function` in the event loop, soon, in the caller's context.

        Raises:
            RuntimeError: the event loop is closed.
            TimeoutError: the thread does not come up.
        """
        self._loop.result(PATIENCE).call_soon_threadsafe(function, context=copy_context())

    def stop(self) -> None:
        """End the event loop and its thread, if it ever ran."""
        if not self.is_running:
            self._leave.set()  # for a thread that is only just starting
            return
        with suppress(RuntimeError):  # it has ended by itself meanwhile
            self.submit(self._leave.set)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._loop.done():
                raise
            self._loop.set_exception(error)

    async def _serve(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        await self._leave.wait()
