"""The bridge from a program without async to a session: an event loop in another thread, and waiting calls.

This module contains no methods of sessions. Those classes are generated from the async ones. It handles a
Ctrl-C in the waiting thread, and the end of a program whose session is still open.
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
    """A call in progress: a task in the loop's thread, and an outcome that the caller waits for.

    Only this object holds the arguments meanwhile, so that no local variable of a frame shows a secret.
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
        """Start the task. A second call changes nothing."""
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
        """Cancel the task, and wait for its end. A task that cleans up may finish that."""
        if self.task is None:  # the caller was interrupted before the loop had the call
            self.fail()
            return
        if not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()
        await asyncio.wait([self.task])

    async def undo(self) -> None:
        """Undo the result, if there is one, because the caller will never receive it."""
        if not self.is_undone and self.outcome.exception() is None:
            self.is_undone = True
            if self._undo is not None:
                undone = self._undo(self.outcome.result())
                if isawaitable(undone):
                    await undone

    # In the caller's thread

    def fail(self) -> None:
        """End a call that never reached the loop, as the close of the session would."""
        with contextlib.suppress(InvalidStateError):
            self.outcome.set_exception(_closed())

    def ended_with(self, error: BaseException) -> bool:
        """Return True if `error` is the call's own. Otherwise, it interrupted the waiting thread."""
        return self.outcome.done() and self.outcome.exception() is error


class Door:
    """The entry to a session from other threads. Each session has one, and any thread may use it."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._calls: dict[_Call, Future[Any]] = {}
        """Entered blocks, and calls whose results no caller holds. To remove a call is to own its result. The
        caller owns it, or the session, which undoes the remaining calls at its end."""
        self._closing = _Call(self._close)
        self._thread: LoopThread | None = None
        self._process = os.getpid()

    @property
    def is_forked(self) -> bool:
        """True if this process is a forked child of the session's process."""
        return os.getpid() != self._process

    @property
    def is_closing(self) -> bool:
        """True if the session has begun to close."""
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
        """Call `function` in the loop's thread, and return its awaited result; see `run`."""
        return self.run(_Call(function, undo=undo))

    def run(self, call: _Call) -> Any:
        """Make `call` in the loop's thread, and return its awaited result.

        After a Ctrl-C, or an exception of another signal's handler, it cancels the call and waits for it.
        Then it raises the exception again. It undoes a result that arrived at that very moment. A second
        Ctrl-C, while the first one propagates through the program, returns at once.
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
        """Return the result of `call`, which the caller owns from now on. A block stays listed until left."""
        if call not in self._calls if call.is_block else self._calls.pop(call, None) is None:
            raise _closed()
        return call.outcome.result()

    def leave(self, block: _Call, function: Callable[[], Any]) -> Any:
        """Call `function`, which leaves the block that `block` entered."""

        def leave() -> Any:
            self._calls.pop(block, None)  # atomic: either this call or the session's end leaves the block
            return function()

        return self.call(leave)

    def close(self) -> None:
        """Close the session, which waits for custody, and end the thread.

        One Ctrl-C does not interrupt this, but a second one does.
        """
        thread, call = self._running(), self._closing
        try:
            thread.submit(call.begin)
            call.outcome.result()
        except BaseException as struck:
            if not call.ended_with(struck) and thread.is_running:
                self._wait_out(thread, call, struck)
                if call.outcome.done():
                    call.outcome.result()  # its CustodyError has precedence
            raise
        finally:
            self._end_thread(thread)

    async def _close(self) -> None:
        calls = tuple(self._calls)
        await asyncio.gather(*(call.cancel() for call in calls))
        undoing = [call.undo() for call in calls if self._calls.pop(call, None) is not None]
        undone = asyncio.gather(*undoing, return_exceptions=True)
        await asyncio.sleep(0)  # after one step of each, the session knows what it has to end
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
        """Make `call`, which ends the interrupted work, and wait for it. Another interrupt leaves now."""
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
        """Tear down the session and make `call` in it, which reports instances that may still be billing."""
        runtime = self._session._runtime
        thread.submit(runtime.tasks.tear_down)
        thread.submit(call.begin)
        if not wait([call.outcome], PATIENCE).done:  # a callback blocks the loop, so report from this thread
            with contextlib.suppress(OSError, ValueError):  # stderr may be closed
                runtime.report_left()

    def _end_thread(self, thread: LoopThread) -> None:
        thread.stop()
        self._thread = None
        for call in tuple(self._calls):  # these calls came too late for the loop
            call.fail()
        _open.discard(self)

    def close_at_exit(self) -> None:
        """Close the session of a program that ends without closing it, and report the reason for the wait.

        A Ctrl-C interrupts this, because the program itself has ended.
        """
        thread, call, runtime = self._thread, self._closing, self._session._runtime
        if thread is None or self.is_forked or not thread.is_running:
            return
        try:
            if _is_second(_last_error()):
                self._leave(thread, call)
                return
            thread.submit(call.begin)
            if not wait([call.outcome], PATIENCE / 6).done:
                custody = runtime.custody
                things = [*map(str, custody.ending), *custody.deploying] or ["its last requests"]
                _say(
                    f"the program ends, and its session was never closed. It ends {', '.join(things)} "
                    f"and waits for that, at most {runtime.close_timeout:.0f} s. Ctrl-C leaves at once"
                )
                wait([call.outcome], PATIENCE)
            if not call.outcome.done() and not self.is_closing:
                self._leave(thread, call)
                return
            wait([call.outcome], runtime.close_timeout + PATIENCE)
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
        """In the loop's thread: end the instances in `result`, which the caller has never received."""
        for ref in _refs(result):
            self._session._runtime.lifecycle.custodian.take(ref)


_open: Final[set[Door]] = set()
"""The open doors, so that the end of a program finds their sessions."""


def _close_all() -> None:
    for door in tuple(_open):
        with contextlib.suppress(BaseException):  # the next session must be closed as well
            door.close_at_exit()


# Before the interpreter waits for threads, and while new ones can still start, as for DNS. `atexit` is later
# than that. The last registered is called first, so that the threads of executors still work then.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _say(text: str) -> None:
    """Write to stderr, if it is still open."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"aiofluence: {text}\n")


def _closed() -> NoReplyError:
    """Return the error for callers that still wait when another thread closes the session."""
    return NoReplyError("the session was closed meanwhile", phase="closed")


def _last_error() -> BaseException | None:
    """Return the exception that has ended the program, if there is one."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _is_second(struck: BaseException | None) -> bool:
    """Return True if an earlier Ctrl-C was propagating through the program when this one arrived."""
    before = struck.__context__ if struck is not None else None
    while before is not None and not isinstance(before, KeyboardInterrupt | SystemExit):
        before = before.__context__
    return before is not None


def _refs(result: Any) -> Iterator[InstanceRef]:
    """Yield the refs of all instances in the result of a call."""
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
