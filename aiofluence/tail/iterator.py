"""The base class of all tails: safe under break, cancellation, timeouts, `aclose`, and if never closed.

`Tail` is a class and no async generator. A generator that is cancelled within a step is finished, and a
`Tail` continues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar

import anyio

from ..background import Owner

T = TypeVar("T")


class Tail(ABC, Generic[T]):
    """An async iterator that ends when its containers have ended. It may be left and continued at any time.

    Each `anext` may run under `asyncio.timeout` or be cancelled, and no item is lost. Between two calls,
    nothing runs and no connection is held, so a tail needs no clean-up.
    """

    def __init__(self) -> None:
        self.owner: Owner = Owner()
        """The owner of the session; before it is set, the event loop of the first step."""
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    @abstractmethod
    def _take(self) -> T | None:
        """Return the next ready item; None if there is none."""

    @abstractmethod
    def _over(self) -> bool:
        """Return True if no further item will ever arrive."""

    @abstractmethod
    async def _wait(self) -> None:
        """Make one step towards the next item."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Wait for the next item.

        Raises:
            ConfigError: this is not the session's event loop.
            AuthError: the key is not, or no longer, valid.
            NotFoundError: the service has never known this container.
            NotSentError: the session is closed, or the service is unreachable for good.
        """
        self.owner.check()
        if self._scope is not None:
            raise RuntimeError("this tail is being read by another task; make one for each")
        item = None if self._closed else self._take()
        if item is None and not self._closed:
            # The scope spans one step only: `aclose` from another task ends this wait and nothing else.
            try:
                with anyio.CancelScope() as self._scope:
                    while (item := self._take()) is None and not self._over():
                        await self._wait()
            finally:
                self._scope = None
        if item is None or self._closed:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End the tail, from any task. A task that waits for the next item sees the iteration end.

        Raises:
            Nothing.
        """
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
