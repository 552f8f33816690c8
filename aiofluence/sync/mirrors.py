"""Calls, iterators and blocks that go through the session's door: the bases of the twins of async classes.

By hand, and knows no verb; the classes with the verbs are generated from the async ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from .bridge import Door, _Call

T_co = TypeVar("T_co", covariant=True)

_HANDING_OVER: Final = {"deploy", "post", "deploy_and_wait", "deploy_all_and_wait", "complete"}
"""What gives the caller instances that are his from then on."""


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
    _is_left: bool

    def _attach(self, door: Door, inner: Any) -> None:
        super()._attach(door, inner)
        self._kept = []  # what came in the moment of a Ctrl-C
        self._is_left = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        if self._kept:
            return self._kept.pop(0)  # type: ignore[no-any-return]
        try:
            return self._door.call(self._inner.__anext__, self._keep)  # type: ignore[no-any-return]
        except StopAsyncIteration:
            raise StopIteration from None

    def _keep(self, item: Any) -> None:
        """In the loop's thread: for the next `next`; if there will be none, it is given back."""
        if not (self._is_left or self._door.is_closing):
            self._kept.append(item)
        elif self._on_failure != "keep":
            self._door.give_back(item)


class Entered(Mirror):
    """Something to go into with `with`."""

    _entered: _Call

    def __enter__(self) -> Self:
        self._entered = _entering(self._inner)
        self._door.run(self._entered)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._door.is_forked:
            return  # the block is the parent's to leave

        def leave() -> Any:
            self._is_left = True
            if self._on_failure != "keep":
                self._door.give_back(getattr(self, "_kept", []))
            return self._inner.__aexit__(kind, error, trace)

        self._door.leave(self._entered, leave)


class Opened(Mirror):
    """What opens and closes the door itself: the session."""

    def __enter__(self) -> Self:
        self._door.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._door.is_forked:
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
        self._entered = _entering(inner)

    def __enter__(self) -> T_co:
        return self._door.run(self._entered)  # type: ignore[no-any-return]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None and self._door.is_forked:
            return None  # the block is the parent's to leave
        return self._door.leave(  # type: ignore[no-any-return]
            self._entered, lambda: self._inner.__aexit__(kind, error, trace)
        )


def _entering(inner: Any) -> _Call:
    """The call that enters `inner`, and leaves it when the session closes, at the latest."""
    return _Call(inner.__aenter__, undo=lambda _: inner.__aexit__(None, None, None), is_block=True)
