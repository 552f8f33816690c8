"""The poller's two queues of instances: by the time of the next poll, and for a GET.

Waiting here costs less than waiting at the rate limiter. Sends nothing itself.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any, Final

from .state import TrackedInstance

_IN_FLIGHT: Final = 32


class DueHeap:
    """Instances by the loop time of their next poll. An entry is valid if it equals the instance's `due`."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TrackedInstance]] = []
        self._order = count()

    def set(self, tracked: TrackedInstance, due: float) -> None:
        """Poll `tracked` at `due`, and no earlier."""
        tracked.due = due
        heapq.heappush(self._heap, (due, next(self._order), tracked))

    def first(self) -> float:
        """The earliest time. Infinite without instances."""
        while self._heap and self._heap[0][0] != self._heap[0][2].due:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop(self, now: float) -> Iterator[TrackedInstance]:
        """Take the instances that are due."""
        while self._heap and self._heap[0][0] <= now:
            due, _, tracked = heapq.heappop(self._heap)
            if due == tracked.due:
                tracked.due = math.inf
                yield tracked

    def clear(self) -> None:
        """Drop all entries."""
        self._heap.clear()


class GetQueue:
    """GETs of one poller.

    Args:
        start: runs a coroutine in the background.
        get: sends one GET of an instance. Called only while a wait for the instance remains.
        finished: called after each GET.
    """

    def __init__(
        self,
        start: Callable[[Coroutine[Any, Any, None]], None],
        get: Callable[[TrackedInstance], Awaitable[None]],
        finished: Callable[[], None],
    ) -> None:
        self._start = start
        self._get = get
        self._finished = finished
        self._queue: deque[TrackedInstance] = deque()
        self._in_flight = 0

    def add(self, tracked: TrackedInstance) -> None:
        """Queue a GET of `tracked`, unless one is queued or in flight already."""
        if not tracked.queued:
            tracked.queued = True
            self._queue.append(tracked)
            self._pump()

    def clear(self) -> None:
        """Drop the queued GETs."""
        self._queue.clear()

    def _pump(self) -> None:
        while self._queue and self._in_flight < _IN_FLIGHT:
            self._in_flight += 1
            self._start(self._fetch(self._queue.popleft()))

    async def _fetch(self, tracked: TrackedInstance) -> None:
        try:
            if tracked.waits:
                await self._get(tracked)
        finally:
            tracked.queued = False
            self._in_flight -= 1
            self._pump()
            self._finished()
