"""The poller's two queues of instances: by the time of their next poll, and those that wait for a GET.

A request that waits here costs less than one that waits at the rate limiter. Sends nothing itself.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any, Final

from .state import Subject

_IN_FLIGHT: Final = 32


class DueHeap:
    """Instances by the loop time of their next poll; `Subject.due` says which of several entries counts."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Subject]] = []
        self._order = count()

    def set(self, subject: Subject, due: float) -> None:
        """Poll `subject` at `due`, and no earlier."""
        subject.due = due
        heapq.heappush(self._heap, (due, next(self._order), subject))

    def first(self) -> float:
        """The earliest time, infinite without one."""
        while self._heap and self._heap[0][0] != self._heap[0][2].due:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop(self, now: float) -> Iterator[Subject]:
        """Take the instances that are due."""
        while self._heap and self._heap[0][0] <= now:
            due, _, subject = heapq.heappop(self._heap)
            if due == subject.due:
                subject.due = math.inf
                yield subject

    def clear(self) -> None:
        """Drop all entries."""
        self._heap.clear()


class GetQueue:
    """GETs of one poller.

    Args:
        start: runs a coroutine in the background.
        get: one GET of an instance; called only while a wait for it remains.
        finished: called after each GET.
    """

    def __init__(
        self,
        start: Callable[[Coroutine[Any, Any, None]], None],
        get: Callable[[Subject], Awaitable[None]],
        finished: Callable[[], None],
    ) -> None:
        self._start = start
        self._get = get
        self._finished = finished
        self._queue: deque[Subject] = deque()
        self._in_flight = 0

    def add(self, subject: Subject) -> None:
        """Queue a GET of `subject`, unless one is queued or in flight already."""
        if not subject.asking:
            subject.asking = True
            self._queue.append(subject)
            self._pump()

    def clear(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    def _pump(self) -> None:
        while self._queue and self._in_flight < _IN_FLIGHT:
            self._in_flight += 1
            self._start(self._fetch(self._queue.popleft()))

    async def _fetch(self, subject: Subject) -> None:
        try:
            if subject.waits:
                await self._get(subject)
        finally:
            subject.asking = False
            self._in_flight -= 1
            self._pump()
            self._finished()
