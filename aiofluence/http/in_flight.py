"""One request under way: how far it has come, and whether it is too late for it.

No HTTP and no sending: the wire keeps these up to date, and reads them when something breaks.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from multidict import CIMultiDict


@attrs.define(eq=False)
class InFlightRequest:
    """One request on its way, in the task that waits for it; what it carries, the key too, is in no repr."""

    headers: CIMultiDict[str] = attrs.field(repr=False)
    task: asyncio.Task[Any] = attrs.field(repr=False)
    deadline: float = 0.0
    late: bool = False
    phase: str = "new"
    """`new`, `connected` (which aiohttp's session alone tells apart), `sent` or `head`."""


class TimeoutScheduler:
    """Cancels flights that take too long, as `asyncio.timeout` would, but with one timer for all of them.

    A timer each, set and hardly ever needed, would be a tenth of what a call costs.
    """

    def __init__(self) -> None:
        self._running: set[InFlightRequest] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, flight: InFlightRequest, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        flight.deadline = loop.time() + seconds
        self._running.add(flight)
        if self._timer is None or flight.deadline < self._timer.when():
            self._set(loop, flight.deadline)

    def stop(self, flight: InFlightRequest) -> None:
        self._running.discard(flight)
        if flight.late:
            flight.task.uncancel()

    def close(self) -> None:
        """Leave nothing behind in the loop; what still runs is timed to its end."""
        if self._timer is not None and not self._running:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + 1e-3  # a timer may fire early by its clock's resolution
        for flight in self._running:
            if flight.deadline <= now and not flight.late:
                flight.late = True
                flight.task.cancel()
        if waiting := [flight.deadline for flight in self._running if not flight.late]:
            self._set(loop, min(waiting))
