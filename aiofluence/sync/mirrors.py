"""Calls, iterators and blocks that go through a session's `Door`: the bases of the classes without async.

This module contains no methods of sessions. Those classes are generated from the async ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from .bridge import Door, _Call

T_co = TypeVar("T_co", covariant=True)

_HANDING_OVER: Final = {"deploy", "post", "deploy_and_wait", "deploy_all_and_wait", "complete"}
"""Methods that hand instances over to the caller."""


class Mirror:
    """The methods of an async object, without async. Created by a session only."""

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
        terms = getattr(self._inner, "_terms", None)  # only a launch has terms
        return terms.on_failure if terms is not None else "terminate"

    def __repr__(self) -> str:
        inner = getattr(self, "_inner", None)  # a debugger may call this before `_attach`
        return f"<without async: {inner!r}>"


class Iterated(Mirror, Generic[T_co]):
    """An iterator for `for`."""

    _kept: list[Any]
    _is_left: bool

    def _attach(self, door: Door, inner: Any) -> None:
        super()._attach(door, inner)
        self._kept = []  # items that arrived at the moment of a Ctrl-C
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
        """In the loop's thread: keep `item` for the next `next`. After the last one, give it back."""
        if not (self._is_left or self._door.is_closing):
            self._kept.append(item)
        elif self._on_failure != "keep":
            self._door.give_back(item)


class Entered(Mirror):
    """A context manager for `with`."""

    _entered: _Call

    def __enter__(self) -> Self:
        self._entered = _entering(self._inner)
        self._door.run(self._entered)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._door.is_forked:
            return  # only the parent process leaves the block

        def leave() -> Any:
            self._is_left = True
            if self._on_failure != "keep":
                self._door.give_back(getattr(self, "_kept", []))
            return self._inner.__aexit__(kind, error, trace)

        self._door.leave(self._entered, leave)


class Opened(Mirror):
    """The session, which opens and closes its door."""

    _is_closed = False

    def __enter__(self) -> Self:
        self._door.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_closed and (error is None or not self._door.is_forked):
            self._door.close()

    def close(self) -> None:
        """Wait until abandoned instances are gone, then close, like leaving the block."""
        if not self._is_closed:
            self._is_closed = True
            self._door.close()

    def call(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Call a function in the session's event loop. If it is async, wait for its result.

        Use it for async methods of other objects: `fluence.call(error.resume, timeout=60)`.

        Args:
            function: function or coroutine function to call.
            args: its positional arguments. `options` are its keyword arguments.

        Raises:
            BaseException: any error of the function.
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
            return None  # only the parent process leaves the block
        return self._door.leave(  # type: ignore[no-any-return]
            self._entered, lambda: self._inner.__aexit__(kind, error, trace)
        )


def _entering(inner: Any) -> _Call:
    """Return the call that enters `inner`. It leaves `inner` at the latest when the session closes."""
    return _Call(inner.__aenter__, undo=lambda _: inner.__aexit__(None, None, None), is_block=True)
