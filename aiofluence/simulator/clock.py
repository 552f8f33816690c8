"""An event loop whose clock jumps to the next timer whenever nothing else is ready.

Minutes of provisioning pass in milliseconds, in the right order. It suits everything that lives in
one loop. Sockets to another thread or process do not mix with it: the clock does not wait for them,
so requests time out falsely. The same holds for threads that the loop's executor did not start.
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
    """Looks for I/O without blocking; if there is none, the time asked for is said to have passed."""

    passed = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (self.threads and timeout > 0):
            return super().select(None)  # only I/O, a signal or a thread can go on: really wait
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0.0)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """`asyncio.SelectorEventLoop` on virtual time, starting at 0.0 seconds.

    The clock stands still while `run_in_executor` or `asyncio.to_thread` has a job running: such a
    job takes no virtual time, however long it takes.

    Give it to a runner as `asyncio.Runner(loop_factory=VirtualClockLoop)`, or to anyio's pytest
    plugin as the backend `("asyncio", {"loop_factory": VirtualClockLoop})`.
    """

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._clock.passed

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in asyncio; the clock stands still until the job is done or given up."""
        future = super().run_in_executor(executor, func, *args)
        self._clock.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio, without its timeout: that is meant in real seconds."""
        await super().shutdown_default_executor()

    def _thread_done(self, future: asyncio.Future[Any]) -> None:
        self._clock.threads -= 1


def run_virtual(main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine, or an async function without arguments, on a `VirtualClockLoop`.

    Returns its result and raises what it raises, as `asyncio.run` does.
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main() if callable(main) else main)
