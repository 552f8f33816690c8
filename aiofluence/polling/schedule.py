"""The schedule of polls: the time of the next LIST or GET, and queues of instances to poll.

Keeps no clock, starts no task and sends nothing. `estimate` has the provisioning times.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any, Final

from .estimate import LifeTable, Pending, ProvisioningEstimate
from .options import Poll
from .state import TrackedInstance

_HEAVY: Final = 5.0
"""Cost (that of about 600 rows) beyond which a LIST must save more undetected seconds than `Poll.cost`."""
_SHORT: Final = 0.82
"""Share of `Poll.interval` as the longest gap: the mean lag is half of a gap, and more if gaps vary."""
_LISTED: Final = 0.37
"""As `_SHORT`, for LISTs."""
_LATE: Final = 36.0
"""Age, in intervals, from which on no gap exceeds `Poll.interval`. The first guess covers no such age."""
_SPARSE: Final = 18.0
"""Age, in intervals, from which on no gap between GETs exceeds `_SPARSE_SHARE` of the age. This limit and
`_SHORT_LATE` hold until the first instance is ready or failed."""
_SPARSE_SHARE: Final = 0.25
_SHORT_LATE: Final = 0.88
"""As `_SHORT`, for ages from `_SPARSE` on."""
_BATCH: Final = 50
"""Number of pending instances at which no gap between LISTs exceeds `Poll.interval` or `_BATCH_SHARE`."""
_BATCH_SHARE: Final = 0.08
"""Longest gap between LISTs, as a share of the age, if that exceeds `Poll.interval`."""
_BATCH_FROM: Final = 8.0
"""Age, in intervals, from which on the batch limit applies."""
_SHARE: Final = 0.1
"""Share of the rate that LISTs may take while other requests wait at the rate limiter."""
_IN_FLIGHT: Final = 32
"""Largest number of GETs of one poller in flight. Waiting here costs less than at the rate limiter."""


def next_poll(table: LifeTable, waiting: Pending, polled: float, price: float, latest: float) -> float:
    """Time of the next poll: the undetected seconds of all pending instances then sum to `price`.

    Args:
        table: distribution of provisioning times.
        waiting: the pending instances.
        polled: loop time of the last poll, at which none was ready.
        price: cost of a poll, in undetected seconds.
        latest: upper bound of the result.
    """
    known = []
    for began, number in waiting:
        done, area = table.at(max(polled - began, 0.0))
        if done < 1.0:
            known.append((began, max(polled - began, 0.0), done, area, number / (1 - done)))
    then = latest
    # Newton's method: the sum is convex in time, so that the steps approach the answer from the right.
    for _ in range(40):
        total = slope = 0.0
        for began, age, done, area, scale in known:
            if then - began > age:
                detail_matches, upto = table.at(then - began)
                total += scale * (upto - area - done * (then - began - age))
                slope += scale * (detail_matches - done)
        if total <= price * 1.01 or slope <= 0:
            break
        then = max(then - (total - price) / slope, polled)
    return then


def backing_off(longest: float) -> Iterator[float]:
    """Growing gaps for a condition that is due soon: from 1/20 of `longest` seconds up, by half each."""
    gap = longest / 20
    while True:
        yield gap
        gap = min(gap * 1.5, longest)


def cheaper_as_list(waiting: int, list_size: float) -> bool:
    """Return True if one LIST of `list_size` bytes costs less than a GET for each of `waiting` instances.

    A request costs 1, and 1 more for each 64 KiB that it brings. A single instance is requested by its id.
    """
    return waiting > 1 and cost(list_size) < waiting


def cost(size: float) -> float:
    """Cost of a request that brings `size` bytes, in requests."""
    return 1 + size / 65536


class Agenda:
    """The poll plan for the pending instances of one kind. All times are loop times, in seconds."""

    def __init__(self, poll: Poll) -> None:
        self._poll: Final = poll
        self._estimate: Final = ProvisioningEstimate(poll.expected, poll.pace)
        self._begun: Counter[int] = Counter()
        """Number of pending instances by the time at which provisioning began, in buckets of `_width` s."""
        self._width: Final = poll.interval / 10
        self._size = 0
        self._list_size = 0.0
        self._asked = -math.inf
        """Time at which the last successful LIST was requested."""
        self._came = -math.inf
        """Time at which the last LIST ended, successful or not."""
        self._gaps: Iterator[float] | None = None
        """Gaps after failed LISTs. None after a success."""
        self._gap = 0.0
        self._table: LifeTable | None = None
        self._next = math.inf
        self._spare = 0.0
        """Undetected seconds that new instances may add before the plan of the next LIST is stale."""

    # Pending instances

    def add(self, began: float, polled: float | None) -> None:
        """Add an instance whose provisioning began at `began`, and which was last polled at `polled`."""
        self._begun[int(began // self._width)] += 1
        self._size += 1
        if self._table is None or polled is not None or self._size == 1:
            self._spare = 0.0
        else:
            # Hundreds may join in a second. Most change nothing: they cannot be ready by the next LIST.
            self._spare -= self._table.undetected(0.0, self._next - began)

    def remove(self, began: float) -> None:
        """Remove an instance."""
        bucket = int(began // self._width)
        self._begun[bucket] -= 1
        self._size -= 1
        if not self._begun[bucket]:
            del self._begun[bucket]

    def saw(self, began: float, polled: float, now: float) -> None:
        """Learn from an instance that was still provisioning at `polled`, and no longer at `now`."""
        self._estimate.saw(max(polled - began, 0.0), now - began)

    def expected_wait(self, age: float) -> float:
        """Seconds until half of the instances that are still provisioning at `age` are provisioned."""
        return self._estimate.table().left(age)

    def times(self) -> LifeTable:
        """Return the distribution of provisioning times seen so far."""
        return self._estimate.table()

    def began_if_due(self, now: float) -> float:
        """Assumed time at which provisioning began, for an instance of unknown age: it is due now."""
        return now - (self._poll.expected or _LATE * self._poll.interval)

    # LIST or GET

    def as_list(self, number: int) -> bool:
        """Return True if one LIST is cheaper than a GET for each of `number` instances."""
        return cheaper_as_list(number, self._list_size)

    @property
    def by_list(self) -> bool:
        """Return True if a LIST polls the pending instances. Otherwise each is polled by a GET."""
        return self.as_list(self._size)

    def list_came(self, asked: float, now: float, size: int) -> None:
        """Note a successful LIST of `size` bytes."""
        self._asked, self._came, self._list_size = asked, now, size
        self._gaps, self._gap, self._spare = None, 0.0, 0.0

    def list_failed(self, now: float, *, unreadable: bool) -> None:
        """Note a failed LIST. After two `unreadable` in a row (too large, say), LISTs are not used."""
        if unreadable and self._gaps is not None:
            self._list_size = math.inf
        self._gaps = self._gaps or backing_off(self._poll.interval)
        self._came, self._gap, self._spare = now, next(self._gaps), 0.0

    def list_refused(self, now: float) -> None:
        """Note a LIST with reply 401 or 403. The next LIST follows soon, and confirms or refutes it."""
        self._came, self._gap = now, 0.0
        self._next, self._spare = now, math.inf

    # Times

    def soonest(self, rate: float | None) -> float:
        """Earliest time of the next LIST. `rate` (requests a second) is given under load.

        The time counts from the last LIST. Counted from now, a stream of new instances would postpone the
        LIST for ever.
        """
        shortest = self._poll.interval / 40
        if rate is not None:
            shortest = max(shortest, 1 / (_SHARE * rate))
        return self._came + max(shortest, self._gap)

    def next_list(self, rate: float | None) -> float:
        """Time of the next LIST for the pending instances. Infinite without any."""
        if not self._size:
            return math.inf
        if self._spare <= 0:
            waiting = self._waiting()
            heavy = max(1.0, cost(self._list_size) / _HEAVY)
            price = self._poll.cost * heavy
            self._table = table = self._estimate.table(max(self._asked, waiting[0][0]), waiting)
            # A LIST serves at least two instances: half the gap costs each no more than a GET alone.
            gap = self._poll.interval * min(_LISTED * heavy, _SHORT)
            latest = min(self._latest(table, began, self._asked, gap) for began, _ in waiting)
            latest = min(latest, self._batch_latest(waiting[0][0]))
            self._next = next_poll(table, waiting, self._asked, price, latest)
            self._spare = price / 10
        return max(self._next, self.soonest(rate))

    def next_get(self, began: float, polled: float | None) -> float:
        """Time of the next GET for a pending instance."""
        since = began if polled is None else max(polled, began)
        table = self._estimate.table()
        age, interval = since - began, self._poll.interval
        if age < _SPARSE * interval or self._estimate.has_seen:
            latest = self._latest(table, began, since, _SHORT * interval)
        else:
            latest = self._latest(table, began, since, _SHORT_LATE * interval)
            latest = min(latest, since + _SPARSE_SHARE * age)
        return next_poll(table, [(began, 1)], since, self._poll.cost, latest)

    def _latest(self, table: LifeTable, began: float, polled: float, gap: float) -> float:
        """Time at which an instance was likely to become ready for `gap` seconds since `polled`."""
        latest = began + table.after(max(polled - began, self._poll.earliest, 0.0), gap)
        return min(latest, max(polled + self._poll.interval, began + _LATE * self._poll.interval))

    def _batch_latest(self, oldest: float) -> float:
        """Latest time of the next LIST. All instances of a batch may become ready at once.

        With more instances the undetected time costs more, and the LIST costs less for each.
        """
        interval = self._poll.interval
        gap = max(interval, _BATCH_SHARE * (self._asked - oldest)) * math.sqrt(_BATCH / self._size)
        return max(self._asked + max(gap, interval / 4), oldest + _BATCH_FROM * interval)

    def _waiting(self) -> Pending:
        return [((bucket + 0.5) * self._width, number) for bucket, number in sorted(self._begun.items())]


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
