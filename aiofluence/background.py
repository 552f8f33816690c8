"""Work that must outlive its caller: one task group, in a task of the session's own.

Also the one place that knows if anything of a session is in flight: see `TaskHome.at_work`.

A caller that is cancelled does not take this work with it, and work that fails takes neither its
siblings nor the user's block with it: what it came to is in the future that `spawn` gives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from .background_owner import Owner
from .errors import ConfigError, NoReplyError, NotSentError

T = TypeVar("T")


class TaskHome:
    """Owns the session's background tasks from `open` to `close`.

    Args:
        owner: the event loop.
        on_work: called with True when the first work begins, with False when no more is in flight.

    Attributes:
        owner: the event loop of these tasks, and nobody else's.
    """

    def __init__(self, owner: Owner, on_work: Callable[[bool], None] = lambda is_at_work: None) -> None:
        self.owner: Owner = owner
        self._on_work = on_work
        self._works = 0
        self._group: asyncio.TaskGroup | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._leave = asyncio.Event()

    async def open(self) -> None:
        """Start the task that holds the group; enter and leave may then be in different tasks."""
        ready = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(ready), name="aiofluence session")
        await ready.wait()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the block as work in flight, as every task is: it may use instances of an open entry.

        Raises:
            ConfigError: the caller is not in the session's event loop.
        """
        self.owner.check()
        self._begin()
        try:
            yield
        finally:
            self._finish()

    def _begin(self) -> None:
        self._works += 1
        if self._works == 1:
            self._on_work(True)

    def _finish(self) -> None:
        self._works -= 1
        if not self._works:
            self._on_work(False)

    async def _keep(self, ready: asyncio.Event) -> None:
        # A Ctrl-C that struck in the middle of a task has stopped the loop already; raised here, it would
        # stop the clearing up as well.
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready.set()
                await self._leave.wait()
                for task in tuple(self._tasks):
                    task.cancel()
        self._group = None

    async def close(self) -> None:
        """Cancel what still runs, and wait until it is gone."""
        self._leave.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    def tear_down(self) -> None:
        """Leave at once, as `asyncio.run` makes us after a second Ctrl-C; for loops in another thread."""
        if self._keeper is not None:
            self._keeper.cancel()

    @property
    def is_torn_down(self) -> bool:
        """Whether somebody is cancelling the session's own task, too.

        That is what `asyncio.run` does to every task after a second Ctrl-C; nobody else knows of this one.
        """
        keeper = self._keeper
        return keeper is not None and not self._leave.is_set() and (keeper.done() or keeper.cancelling() > 0)

    @property
    def is_closed(self) -> bool:
        """Whether no more tasks can be started."""
        return self._group is None or self._leave.is_set() or self.is_torn_down

    def spawn(self, work: Coroutine[Any, Any, T], *, is_service: bool = False) -> asyncio.Future[T]:
        """Run `work` to its end whatever becomes of the caller; its outcome is in the future.

        Await it through `asyncio.shield`, so that a cancelled caller does not cancel the future.

        Args:
            work: what to run.
            is_service: it runs for as long as the session, so that it is no work in flight.

        Raises:
            ConfigError: the caller is not in the session's event loop.
            NotSentError: the session is closed.
        """
        try:
            self.owner.check()
        except ConfigError:
            work.close()
            raise
        if self._group is None or self.is_closed:
            work.close()
            raise NotSentError("the session is not open", permanent=True)
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_retrieve)
        if not is_service:
            self._begin()
        task = self._group.create_task(_contain(work, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _give_up(work, outcome))
        if not is_service:
            # Called after the callbacks of `outcome`: what they begin is in flight before this is over.
            task.add_done_callback(lambda _: self._finish())
        return outcome


async def _contain(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    """Run `work` and put what comes of it into `outcome`: an error in the group would end all of it."""
    try:
        result = await work
    except Exception as error:
        if not outcome.done():
            outcome.set_exception(error)
    except BaseException:
        # Cancelled, which only closing does, or struck by Ctrl-C. Whoever still waits gets a typed error.
        if not outcome.done():
            outcome.set_exception(_closed())
        raise
    else:
        if not outcome.done():
            outcome.set_result(result)


def _give_up(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    """A task that is cancelled before its first step never begins: somebody must still be told."""
    if not outcome.done():
        work.close()
        outcome.set_exception(_closed())


def _closed() -> NoReplyError:
    return NoReplyError("the session was closed meanwhile", phase="closed")


def _retrieve(outcome: asyncio.Future[Any]) -> None:
    """Nobody may be left to ask: that is no reason for asyncio to complain."""
    if not outcome.cancelled():
        outcome.exception()
