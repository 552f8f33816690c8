"""The way from a program without async to a session: an event loop in a thread of its own, and waiting here.

By hand, and knows no verb; the classes with the verbs are generated from the async ones. What happens when
Ctrl-C strikes the waiting thread, and when the program ends with the session open, is decided here.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  (so that its exit handler is registered before ours)
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from inspect import isawaitable
from typing import Any, Final

from ..background import forked
from ..batch.report import Outcome, Report
from ..errors import ConfigError, FluenceError, NoReplyError
from ..models.instances import ContainerSummary, InstanceRef, MachineSummary
from ..session import Session as AsyncSession
from .thread import PATIENCE, LoopThread

log: Final = logging.getLogger("aiofluence")


class _Call:
    """One call on its way: in the loop's thread a task, here an outcome to wait for.

    Its arguments are nowhere else meanwhile: no local variable of a frame shows what may be secret.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        undo: Callable[[Any], Any] | None = None,
        *,
        is_block: bool = False,
    ) -> None:
        self.outcome: Future[Any] = Future()
        self.task: asyncio.Task[Any] | None = None
        self.is_block: Final = is_block
        self.is_undone: bool = False
        self._undo = undo
        self._function = function
        self._args = args
        self._options = options or {}
        self._is_cancelled = False

    # In the loop's thread

    def begin(self) -> None:
        """Start the task; a second time changes nothing."""
        if self.task is None and not self.outcome.done():
            self.task = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        try:
            result = self._function(*self._args, **self._options)
            if isawaitable(result):
                result = await result
        except asyncio.CancelledError:
            self.outcome.set_exception(_closed())
            raise
        except BaseException as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)

    async def cancel(self) -> None:
        """End the task, and wait for it. A task that clears up is left to finish that."""
        if self.task is None:  # the caller was struck before the loop had it
            self.fail()
            return
        if not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()
        await asyncio.wait([self.task])

    async def undo(self) -> None:
        """Undo the result, if there is one; the caller will never have it."""
        if not self.is_undone and self.outcome.exception() is None:
            self.is_undone = True
            if self._undo is not None:
                undone = self._undo(self.outcome.result())
                if isawaitable(undone):
                    await undone

    # In the caller's thread

    def fail(self) -> None:
        """Let a call that the loop never had end as one that the session's close cut off."""
        with contextlib.suppress(InvalidStateError):
            self.outcome.set_exception(_closed())

    def ended_with(self, error: BaseException) -> bool:
        """Whether `error` is the call's own; if not, it struck us while we waited."""
        return self.outcome.done() and self.outcome.exception() is error


class Door:
    """One for each session; what goes through it may come from any thread."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._calls: dict[_Call, Future[Any]] = {}
        """Calls whose results no caller holds, and blocks that are entered. To take a call out is to take its
        result, so that it has one owner: the caller, or the session, which undoes what is left at its end."""
        self._closing = _Call(self._close)
        self._thread: LoopThread | None = None
        self._process = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this process is a forked child of the session's own."""
        return os.getpid() != self._process

    @property
    def is_closing(self) -> bool:
        """Whether the session has begun to close."""
        return self._closing.task is not None

    def open(self) -> None:
        """Start the thread, and open the session in it."""
        if self._thread is not None or self.is_closing:
            raise ConfigError("a session is entered once; make a new one")
        self._process = os.getpid()
        self._thread = thread = LoopThread()
        _open.add(self)
        try:
            thread.start()
            self.call(self._session.__aenter__)
        except BaseException:
            if thread.is_running:
                self.close()
            else:
                self._end_thread(thread)
            raise

    def call(self, function: Callable[[], Any], undo: Callable[[Any], Any] | None = None) -> Any:
        """Call `function` in the loop's thread, await what it gives, and give that; see `run`."""
        return self.run(_Call(function, undo=undo))

    def run(self, call: _Call) -> Any:
        """Make `call` in the loop's thread, await what it gives, and give that.

        Struck meanwhile by Ctrl-C, or by what another signal's handler raises, it cancels the call, waits
        until that is through, and raises again. A result that came at that very moment is undone.
        A second Ctrl-C, one that strikes while the first is on its way through the program, leaves at once.
        """
        thread, outcome = self._running(), call.outcome
        try:
            self._calls[call] = outcome
            thread.submit(call.begin)
            outcome.result()
            return self._taken(call)
        except BaseException as struck:
            if call.ended_with(struck) or call.is_undone or not thread.is_running:
                self._calls.pop(call, None)
                raise
            self._wait_out(thread, _Call(self._give_up, [call]), struck)
            raise

    def _taken(self, call: _Call) -> Any:
        """The result of `call`, which is the caller's from here on; that of a block when it is left."""
        if call not in self._calls if call.is_block else self._calls.pop(call, None) is None:
            raise _closed()
        return call.outcome.result()

    def leave(self, block: _Call, function: Callable[[], Any]) -> Any:
        """Leave a block that was entered by `block`: `function` does."""

        def leave() -> Any:
            self._calls.pop(block, None)  # in one step: either this leaves the block, or the session's end
            return function()

        return self.call(leave)

    def close(self) -> None:
        """Close the session, which waits for custody, and end the thread.

        A Ctrl-C does not cut this short; a second one does.
        """
        thread, call = self._running(), self._closing
        try:
            thread.submit(call.begin)
            call.outcome.result()
        except BaseException as struck:
            if not call.ended_with(struck) and thread.is_running:
                self._wait_out(thread, call, struck)
                if call.outcome.done():
                    call.outcome.result()  # its CustodyError comes first
            raise
        finally:
            self._end_thread(thread)

    async def _close(self) -> None:
        calls = tuple(self._calls)
        await asyncio.gather(*(call.cancel() for call in calls))
        undoing = [call.undo() for call in calls if self._calls.pop(call, None) is not None]
        undone = asyncio.gather(*undoing, return_exceptions=True)
        await asyncio.sleep(0)  # one step of each gives the session what it has to end
        try:
            if self._session._runtime.state == "open":
                await self._session.__aexit__(None, None, None)
        finally:
            await undone

    async def _give_up(self, call: _Call) -> None:
        await call.cancel()
        self._calls.pop(call, None)
        await call.undo()

    def _wait_out(self, thread: LoopThread, call: _Call, struck: BaseException) -> None:
        """Make `call`, which ends what was struck, and wait for it; struck again, leave at once."""
        try:
            if not _is_second(struck):
                thread.submit(call.begin)
                wait([call.outcome])
                return
        except BaseException:
            self._leave(thread, call)
            raise
        self._leave(thread, call)

    def _leave(self, thread: LoopThread, call: _Call) -> None:
        """Make `call` in a session that is torn down, which says what may still be billing."""
        house = self._session._runtime
        thread.submit(house.home.tear_down)
        thread.submit(call.begin)
        if not wait([call.outcome], PATIENCE).done:  # a callback blocks the loop: said from here
            with contextlib.suppress(OSError, ValueError):  # no stderr is left
                house.custodian._report(at_once=True)

    def _end_thread(self, thread: LoopThread) -> None:
        thread.stop()
        self._thread = None
        for call in tuple(self._calls):  # came too late for the loop
            call.fail()
        _open.discard(self)

    def close_at_exit(self) -> None:
        """Close the session of a program that ends without having closed it; says what it waits for.

        A Ctrl-C cuts this short: the program itself has ended.
        """
        thread, call, house = self._thread, self._closing, self._session._runtime
        if thread is None or self.is_forked or not thread.is_running:
            return
        try:
            if _is_second(_last_error()):
                self._leave(thread, call)
                return
            thread.submit(call.begin)
            if not wait([call.outcome], PATIENCE / 6).done:
                custody = house.custodian.now
                things = [*map(str, custody.ending), *custody.deploying] or ["its last requests"]
                _say(
                    f"the program ends, and a session of it was never closed. It ends {', '.join(things)} "
                    f"and waits for that, at most {house.close_timeout:.0f} s. Ctrl-C leaves at once"
                )
                wait([call.outcome], PATIENCE)
            if not call.outcome.done() and not self.is_closing:
                self._leave(thread, call)
                return
            wait([call.outcome], house.close_timeout + PATIENCE)
            if call.outcome.done() and isinstance(error := call.outcome.exception(), FluenceError):
                _say(str(error))
        except BaseException:
            self._leave(thread, call)
        finally:
            self._end_thread(thread)

    def _running(self) -> LoopThread:
        if self._thread is None:
            raise ConfigError("use it as `with Session() as fluence:`")
        if self.is_forked:
            raise forked()
        if self._thread.is_here:
            raise RuntimeError(
                "this was called in the session's event loop thread, where it would wait for itself"
            )
        return self._thread

    def give_back(self, result: Any) -> None:
        """In the loop's thread: the caller never came to hold what is in `result`, so the session ends it."""
        for ref in _refs(result):
            self._session._runtime.custodian.take(ref)


_open: Final[set[Door]] = set()
"""The doors that are open: a program that ends, however it came to that, finds its sessions here."""


def _close_all() -> None:
    for door in tuple(_open):
        with contextlib.suppress(BaseException):  # the next one must be closed as well
            door.close_at_exit()


# Before the interpreter waits for threads, and while new ones can still be started, as for DNS; `atexit` is
# later than that. What is registered last is called first: the executors' threads must still work then.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _say(text: str) -> None:
    """On stderr, if there still is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"aiofluence: {text}\n")


def _closed() -> NoReplyError:
    """For who still waits when the session is closed from another thread."""
    return NoReplyError("the session was closed meanwhile", phase="closed")


def _last_error() -> BaseException | None:
    """The exception that has ended the program, if one has."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _is_second(struck: BaseException | None) -> bool:
    """Whether an earlier Ctrl-C was on its way through the program when this one struck."""
    before = struck.__context__ if struck is not None else None
    while before is not None and not isinstance(before, KeyboardInterrupt | SystemExit):
        before = before.__context__
    return before is not None


def _refs(result: Any) -> Iterator[InstanceRef]:
    """The instances in what a call gave."""
    match result:
        case InstanceRef() | ContainerSummary() | MachineSummary():
            yield result.ref
        case Outcome():
            yield from _refs(result.instance)
        case Report():
            yield from _refs(list(result.instances))
        case list():
            for one in result:
                yield from _refs(one)
        case _:
            pass
