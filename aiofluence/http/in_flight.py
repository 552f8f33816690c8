"""A request in flight: its progress and its timeout.

No HTTP and no sending: the wire updates these objects, and reads them after an error.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from multidict import CIMultiDict


@attrs.define(eq=False)
class InFlightRequest:
    """A request in flight, and the task that waits for it. No repr shows its contents, such as the key."""

    headers: CIMultiDict[str] = attrs.field(repr=False)
    task: asyncio.Task[Any] = attrs.field(repr=False)
    deadline: float = 0.0
    late: bool = False
    phase: str = "new"
    """`new`, `connected` (reported only by aiohttp's session), `sent` or `head`."""


class TimeoutScheduler:
    """Timeouts of all requests in flight, as from `asyncio.timeout`, but with a single timer.

    A timer for each request, set and rarely needed, would be a tenth of the cost of a call.
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
        """Leave no timer behind in the loop, unless requests are still in flight."""
        if self._timer is not None and not self._running:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._cancel_late, loop)

    def _cancel_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + 1e-3  # a timer may fire early by its clock's resolution
        for flight in self._running:
            if flight.deadline <= now and not flight.late:
                flight.late = True
                flight.task.cancel()
        if waiting := [flight.deadline for flight in self._running if not flight.late]:
            self._set(loop, min(waiting))
