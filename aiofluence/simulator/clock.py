"""An event loop whose clock jumps to the next timer whenever nothing else is ready.

Minutes of provisioning pass in milliseconds, in the right order. The loop suits programs that live in
one loop. Do not combine the loop with sockets to another thread or process. The clock does not wait for
those sockets, so requests time out wrongly. Threads from outside the loop's executor have the same problem.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Selector that polls for I/O without blocking. Without I/O it counts the timeout as passed."""

    passed = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (self.threads and timeout > 0):
            return super().select(None)  # only I/O, a signal or a thread can wake the loop: block
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0.0)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """`asyncio.SelectorEventLoop` on virtual time, starting at 0.0 seconds.

    The clock stops while `run_in_executor` or `asyncio.to_thread` runs a job. Such a job takes no virtual
    time.

    Pass the class to a runner as `asyncio.Runner(loop_factory=VirtualClockLoop)`, or to anyio's pytest
    plugin as the backend `("asyncio", {"loop_factory": VirtualClockLoop})`.
    """

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._clock.passed

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` as asyncio does. The clock stops until the job has finished or was cancelled."""
        future = super().run_in_executor(executor, func, *args)
        self._clock.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut down as asyncio does, but ignore the timeout, which is in real seconds."""
        await super().shutdown_default_executor()

    def _thread_done(self, future: asyncio.Future[Any]) -> None:
        self._clock.threads -= 1


def run_virtual(main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine, or an async function without arguments, on a `VirtualClockLoop`.

    Return the coroutine's result and raise its exception, as `asyncio.run` does.
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main() if callable(main) else main)
