"""Tasks that outlive their caller, and the event loop, thread and process that own them.

A cancelled caller does not cancel such a task. A failing task ends neither its siblings nor the user's block,
because its outcome goes into the future that `spawn` returns. This module does not depend on sessions.
`BackgroundTasks` counts the session's work in flight; see `at_work`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeVar
from weakref import WeakSet

from .errors import ConfigError, NoReplyError, NotSentError

T = TypeVar("T")


class Owner:
    """The event loop of one session, fixed by `open` or by the first call.

    Attributes:
        loop: the event loop; None until it is fixed, and again in a forked child.
        is_forked: True in a forked child of the session's process.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_forked: bool = False

    def check(self) -> None:
        """Refuse a caller outside the session's event loop.

        Raises:
            ConfigError: the caller is outside; nothing was sent.
        """
        running = asyncio._get_running_loop()
        if running is not self.loop or running is None:
            self.settle(running)

    def settle(self, running: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        """Make `running` the session's event loop if it has none yet, and return it.

        Raises:
            ConfigError: the session has another loop, no asyncio loop runs here, or this is a forked child.
        """
        if self.is_forked:
            raise forked()
        if running is None:
            raise _no_loop()
        if self.loop is None:
            self.loop = running
            _owners.add(self)
        if running is not self.loop:
            raise ConfigError(
                "this session belongs to another event loop. Nothing was sent. Use a session in the loop and "
                "the thread in which it was opened (asyncio.run_coroutine_threadsafe leads there), or make a "
                "new one"
            )
        return running

    def _disown(self) -> None:
        self.loop = None
        self.is_forked = True


def loop_time() -> float:
    """Return the time of the running event loop.

    Raises:
        ConfigError: no event loop runs here, as in a forked child and under trio.
    """
    running = asyncio._get_running_loop()
    if running is None:
        raise _no_loop()
    return running.time()


def forked() -> ConfigError:
    """Return the error for a forked child."""
    return ConfigError(
        "this session belongs to the parent process, which still holds it, and its instances with it. "
        "Nothing was sent. Make a session of its own in the forked child"
    )


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield `items`, such as the rows of a LIST. Every 100 items, the event loop runs other tasks."""
    for number, item in enumerate(items, 1):
        if number % 100 == 0:
            await asyncio.sleep(0)
        yield item


def session_closed() -> NotSentError:
    """Return the error for a request that a closed session did not send."""
    return NotSentError("the session is closed, or was never opened", permanent=True)


def _no_loop() -> ConfigError:
    return ConfigError(
        "a session runs on asyncio, and no asyncio event loop runs here. Nothing was sent. In a forked child "
        "make a session of its own; under trio use aiofluence.sync.Session in a thread "
        "(trio.to_thread.run_sync)"
    )


_owners: Final[WeakSet[Owner]] = WeakSet()
"""Owners with a fixed loop, only for forks: a child that continues in its parent's loop has no other sign."""


def _disown_all() -> None:
    for owner in tuple(_owners):
        owner._disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


class BackgroundTasks:
    """Owner of the session's background tasks from `open` to `close`.

    Args:
        owner: the event loop of these tasks.

    Attributes:
        owner: the event loop of these tasks, which no other loop may use.
        on_work: function called with True when the first work begins, and with False when none is left.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner: Owner = owner
        self.on_work: Callable[[bool], None] = lambda is_at_work: None
        self._works = 0
        self._group: asyncio.TaskGroup | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._leave = asyncio.Event()

    async def open(self) -> None:
        """Start the task that holds the task group, so that enter and leave may be in different tasks."""
        ready = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(ready), name="aiofluence session")
        await ready.wait()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the block as work in flight, like a task. It may use instances of an open journal entry.

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
            self.on_work(True)

    def _finish(self) -> None:
        self._works -= 1
        if not self._works:
            self.on_work(False)

    async def _keep(self, ready: asyncio.Event) -> None:
        # A Ctrl-C in the middle of a task has already stopped the loop. If it were raised here, it would stop
        # the clean-up as well.
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready.set()
                await self._leave.wait()
                for task in tuple(self._tasks):
                    task.cancel()
        self._group = None

    async def close(self) -> None:
        """Cancel the remaining tasks, and wait until they have ended."""
        self._leave.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    def tear_down(self) -> None:
        """Leave at once, as after a second Ctrl-C under `asyncio.run`; for loops in another thread."""
        if self._keeper is not None:
            self._keeper.cancel()

    @property
    def is_torn_down(self) -> bool:
        """True if the session's own task is being cancelled.

        Only `asyncio.run` does that: it cancels every task after a second Ctrl-C. No other code has a
        reference to this task.
        """
        keeper = self._keeper
        return keeper is not None and not self._leave.is_set() and (keeper.done() or keeper.cancelling() > 0)

    @property
    def is_closed(self) -> bool:
        """True if no more tasks can be started."""
        return self._group is None or self._leave.is_set() or self.is_torn_down

    def spawn(self, work: Coroutine[Any, Any, T], *, is_service: bool = False) -> asyncio.Future[T]:
        """Run `work` to its end, whatever happens to the caller. Return a future of its outcome.

        Await the future through `asyncio.shield`, so that a cancelled caller does not cancel it.

        Args:
            work: coroutine to run.
            is_service: True if `work` runs as long as the session, and does not count as work in flight.

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
            raise session_closed()
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_retrieve)
        if not is_service:
            self._begin()
        task = self._group.create_task(_contain(work, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _give_up(work, outcome))
        if not is_service:
            # Called after the callbacks of `outcome`, so that work begun there is already counted.
            task.add_done_callback(lambda _: self._finish())
        return outcome


async def _contain(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    """Run `work` and put its outcome into `outcome`: an error in the task group would end all its tasks."""
    try:
        result = await work
    except Exception as error:
        if not outcome.done():
            outcome.set_exception(error)
    except BaseException:
        # Cancelled, which only closing does, or hit by Ctrl-C. A remaining waiter gets a typed error.
        if not outcome.done():
            outcome.set_exception(_closed())
        raise
    else:
        if not outcome.done():
            outcome.set_result(result)


def _give_up(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    """Report a task that was cancelled before its first step, and therefore never ran."""
    if not outcome.done():
        work.close()
        outcome.set_exception(_closed())


def _closed() -> NoReplyError:
    return NoReplyError("the session was closed meanwhile", phase="closed")


def _retrieve(outcome: asyncio.Future[Any]) -> None:
    """Retrieve the exception, so that asyncio does not warn when no caller is left to do so."""
    if not outcome.cancelled():
        outcome.exception()
