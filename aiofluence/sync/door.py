"""The way from a program without async to a session: an event loop in a thread of its own, and waiting here.

By hand, and knows no verb; the classes with the verbs are generated from the async ones. What happens when
Ctrl-C strikes the waiting thread is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..errors import ConfigError, NoReplyError
from ..lifecycle.report import Outcome, Report
from ..models.instances import ContainerSummary, InstanceRef, MachineSummary
from ..session import Session as AsyncSession

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_HANDING_OVER: Final = {"deploy", "post", "deploy_and_wait", "deploy_all_and_wait", "complete"}
"""What gives the caller instances that are his from then on."""


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
    ) -> None:
        self.outcome: Future[Any] = Future()
        self.task: asyncio.Task[Any] | None = None
        self.undo = undo
        self._function = function
        self._args = args
        self._options = options or {}

    async def run(self) -> None:
        self.task = asyncio.current_task()
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

    def cancel(self) -> None:
        """In the loop's thread, and once: a task that clears up is left alone."""
        if self.task is not None:
            self.task.cancel()
        elif not self.outcome.done():  # the Ctrl-C came before it had begun
            self.outcome.set_exception(_closed())

    def ended_with(self, error: BaseException) -> bool:
        """Whether `error` is what it came to; if not, it struck us while we waited."""
        return self.outcome.done() and self.outcome.exception() is error


class Door:
    """One for each session; what goes through it may come from any thread."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._calls: set[_Call] = set()
        self._thread = ExitStack()
        self._portal: BlockingPortal | None = None

    def open(self) -> None:
        """Start the thread, and open the session in it."""
        self._portal = self._thread.enter_context(start_blocking_portal(name="aiofluence"))
        try:
            self.call(self._session.__aenter__, undo=lambda _: self._session.__aexit__(None, None, None))
        except BaseException:
            self._end_thread()
            raise

    def call(self, function: Callable[[], Any], undo: Callable[[Any], Any] | None = None) -> Any:
        """Call `function` in the loop's thread, await what it gives, and give that; see `run`."""
        return self.run(_Call(function, undo=undo))

    def run(self, call: _Call) -> Any:
        """Make `call` in the loop's thread, await what it gives, and give that.

        Struck meanwhile by Ctrl-C, or by what another signal's handler raises, it cancels the call, waits
        until that is through, and raises again. `call.undo` gets a result that came at that very moment.
        A second Ctrl-C, one that strikes while the first is on its way through the program, leaves at once.
        """
        portal = self._running()
        self._calls.add(call)
        try:
            portal.start_task_soon(call.run)
            return call.outcome.result()
        except BaseException as struck:
            if call.ended_with(struck) or _is_wrong_thread(struck):
                raise
            self._wait_out(call, struck, lambda: portal.call(call.cancel))
            if call.undo is not None and call.outcome.exception() is None:
                self.run(_Call(call.undo, [call.outcome.result()]))
            raise
        finally:
            self._calls.discard(call)

    def close(self) -> None:
        """Close the session, which waits for custody, and end the thread.

        A Ctrl-C does not cut this short; a second one does.
        """
        portal, call = self._running(), _Call(self._close)
        try:
            portal.start_task_soon(call.run)
            call.outcome.result()
        except BaseException as struck:
            if not call.ended_with(struck) and not _is_wrong_thread(struck):
                self._wait_out(call, struck, lambda: self._start_unless_begun(call))
                call.outcome.result()  # its CustodyError comes first
            raise
        finally:
            self._end_thread()

    async def _close(self) -> None:
        tasks = [call.task for call in tuple(self._calls) if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._session.__aexit__(None, None, None)

    def _start_unless_begun(self, call: _Call) -> None:
        # The loop takes what it is given in order: what has not begun by now was never given to it.
        if not self._running().call(lambda: call.task is not None):
            self._running().start_task_soon(call.run)

    def _wait_out(self, call: _Call, struck: BaseException, settle: Callable[[], Any]) -> None:
        """Wait until `call` is through, after `settle`; struck again, leave at once."""
        try:
            if not _is_second(struck):
                settle()
                wait([call.outcome])
                return
        except BaseException:
            self._leave(call, settle)
            raise
        self._leave(call, settle)

    def _leave(self, call: _Call, settle: Callable[[], Any]) -> None:
        self._running().call(self._session._house.home.tear_down)
        settle()
        wait([call.outcome])

    def _end_thread(self) -> None:
        self._portal = None
        self._thread.close()

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            raise ConfigError("use it as `with Session() as fluence:`")
        return self._portal

    def give_back(self, result: Any) -> None:
        """In the loop's thread: the caller never came to hold what is in `result`, so the session ends it."""
        for ref in _refs(result):
            self._session._house.custodian.take(ref)


def _closed() -> NoReplyError:
    """For who still waits when the session is closed from another thread."""
    return NoReplyError("the session was closed meanwhile", phase="closed")


def _is_wrong_thread(error: BaseException) -> bool:
    """What anyio raises in the loop's own thread, as in a callback: to wait there would be for ever."""
    return isinstance(error, RuntimeError)


def _is_second(struck: BaseException) -> bool:
    """Whether an earlier Ctrl-C was on its way through the program when this one struck."""
    before = struck.__context__
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


class Mirror:
    """Has the verbs of an async object, without async. Made by a session; not by hand."""

    _door: Door
    _inner: Any

    @classmethod
    def _of(cls, door: Door, inner: Any) -> Self:
        made = cls.__new__(cls)
        made._attach(door, inner)
        return made

    def _attach(self, door: Door, inner: Any) -> None:
        self._door, self._inner = door, inner

    def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        call = self._prepared(name, args, options)
        del args, options
        return self._door.run(call)

    def _prepared(self, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> _Call:
        keep = options.get("on_failure", self._on_failure) == "keep"
        undo = self._door.give_back if name in _HANDING_OVER and not keep else None
        return _Call(getattr(self._inner, name), args, options, undo)

    def _get(self, name: str) -> Any:
        return self._door.call(lambda: getattr(self._inner, name))

    @property
    def _on_failure(self) -> str:
        terms = getattr(self._inner, "_terms", None)  # a launch's
        return terms.on_failure if terms is not None else "terminate"

    def __repr__(self) -> str:
        inner = getattr(self, "_inner", None)  # a debugger may ask while it is still being built
        return f"<without async: {inner!r}>"


class Iterated(Mirror, Generic[T_co]):
    """Something to go through with `for`."""

    _kept: list[Any]

    def _attach(self, door: Door, inner: Any) -> None:
        super()._attach(door, inner)
        self._kept = []  # what came in the moment of a Ctrl-C

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        if self._kept:
            return self._kept.pop(0)  # type: ignore[no-any-return]
        try:
            return self._door.call(self._inner.__anext__, self._kept.append)  # type: ignore[no-any-return]
        except StopAsyncIteration:
            raise StopIteration from None


class Entered(Mirror):
    """Something to go into with `with`."""

    def __enter__(self) -> Self:
        _enter(self._door, self._inner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            kept = getattr(self, "_kept", [])
            if kept and self._on_failure != "keep":
                self._door.call(lambda: self._door.give_back(kept))
        finally:
            self._door.call(lambda: self._inner.__aexit__(kind, error, trace))


class Opened(Mirror):
    """What opens and closes the door itself: the session."""

    def __enter__(self) -> Self:
        self._door.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.close()

    def call(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Call any function in the session's event loop; if it is async, its result is waited for.

        For what is async elsewhere: `fluence.call(error.resume, timeout=60)`.

        Args:
            function: what to call, a coroutine function or not.
            args: its arguments; `options` are those by name.

        Raises:
            BaseException: whatever it raises.
        """
        call = _Call(function, args, options)
        del args, options
        return self._door.run(call)


class Block(AbstractContextManager[T_co]):
    """An async context manager as a plain one."""

    def __init__(self, door: Door, inner: Any) -> None:
        self._door = door
        self._inner = inner

    def __enter__(self) -> T_co:
        return _enter(self._door, self._inner)  # type: ignore[no-any-return]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._door.call(  # type: ignore[no-any-return]
            lambda: self._inner.__aexit__(kind, error, trace)
        )


def _enter(door: Door, inner: Any) -> Any:
    return door.call(inner.__aenter__, lambda _: inner.__aexit__(None, None, None))
