"""Retries of unsent requests while the service cannot be reached, until a deadline.

One `Outage` belongs to one launch, so that many deploys report one outage once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from ..errors import NotSentError
from ..polling.schedule import backing_off

T = TypeVar("T")

log: Final = logging.getLogger("aiofluence")

_LONGEST: Final = 20.0
"""Longest pause between two attempts, in seconds. Each includes several attempts of the transport."""


class Outage:
    """Pauses between the attempts of one launch. `deadline` is a loop time, or None for no end.

    Attributes:
        last_error: error of the last failed attempt. None before the first.
    """

    def __init__(self, deadline: float | None) -> None:
        self.last_error: NotSentError | None = None
        self._deadline = deadline

    @staticmethod
    def pauses() -> Iterator[float]:
        """Seconds between the attempts of one request: from 1 up to 20."""
        return backing_off(_LONGEST)

    async def pause(self, error: NotSentError, pauses: Iterator[float]) -> None:
        """Sleep before the next attempt.

        Raises:
            NotSentError: `error`, if it is permanent or the deadline comes before the next attempt.
        """
        loop = asyncio.get_running_loop()
        seconds = next(pauses)
        if error.permanent or (self._deadline is not None and loop.time() + seconds >= self._deadline):
            raise error
        if self.last_error is None:
            left = "" if self._deadline is None else f" for {self._deadline - loop.time():.0f} s"
            log.warning("the service cannot be reached; the launch tries again%s: %s", left, error)
        self.last_error = error
        await asyncio.sleep(seconds)

    async def outlast(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call `work` until its requests are sent, and return its result."""
        pauses = self.pauses()
        while True:
            try:
                return await work()
            except NotSentError as error:
                await self.pause(error, pauses)
