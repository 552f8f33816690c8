"""What all tails are to whoever iterates: safe under break, cancellation, timeouts, `aclose` and neglect.

A class and no async generator: one that is cancelled in the middle of a step is dead, this one goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar

import anyio

from ..background import Owner

T = TypeVar("T")


class Tail(ABC, Generic[T]):
    """An `async for` that ends when the containers have. It may be left and gone on with at any time.

    Each `anext` may be under `asyncio.timeout`, or be cancelled, without losing anything. Nothing runs and
    no connection is held between two of them, so that dropping a tail needs no clean-up.
    """

    def __init__(self) -> None:
        self.owner: Owner = Owner()
        """The session's; until it is given, the event loop of the first step."""
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    @abstractmethod
    def _take(self) -> T | None:
        """The next one that is ready; None when there is none."""

    @abstractmethod
    def _over(self) -> bool:
        """Whether there will never be another."""

    @abstractmethod
    async def _wait(self) -> None:
        """One step towards the next one."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Wait for the next one.

        Raises:
            ConfigError: this is not the session's event loop.
            AuthError: the key is not, or no longer, good.
            NotFoundError: the service has never known this container.
            NotSentError: the session is closed, or the service cannot be reached for good.
        """
        self.owner.check()
        if self._scope is not None:
            raise RuntimeError("this tail is being read by another task; make one for each")
        item = None if self._closed else self._take()
        if item is None and not self._closed:
            # Opened and closed within one step: `aclose` from another task ends this wait and nothing else.
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
        """End it, from whatever task; whoever waits for the next one sees the iteration end.

        Raises:
            Nothing.
        """
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
