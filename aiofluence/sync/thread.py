"""An event loop in a separate thread that never keeps the interpreter from ending.

This module knows neither sessions nor their methods. The thread is a daemon, so the interpreter does not wait
for it. `bridge` does the work that is due before the program ends.
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
"""Seconds within which the event loop must answer. After that, a callback is blocking it."""


class LoopThread:
    """A thread with one event loop, from `start` to `stop`."""

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="aiofluence", daemon=True)

    @property
    def is_here(self) -> bool:
        """True if the caller runs in this thread."""
        return self._thread.ident == threading.get_ident()

    @property
    def is_running(self) -> bool:
        """True if the thread was started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, and wait until its event loop runs.

        Raises:
            OSError: the event loop could not be created, for example for lack of file descriptors.
        """
        self._thread.start()
        self._loop.result()

    def submit(self, function: Callable[[], object]) -> None:
        """Schedule `function` in the event loop, in the caller's context.

        Raises:
            RuntimeError: the event loop is closed.
            TimeoutError: the thread has not started in time.
        """
        self._loop.result(PATIENCE).call_soon_threadsafe(function, context=copy_context())

    def stop(self) -> None:
        """End the event loop and its thread, if it ever ran."""
        if not self.is_running:
            self._leave.set()  # the thread may be about to start
            return
        with suppress(RuntimeError):  # the loop has ended by itself meanwhile
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
