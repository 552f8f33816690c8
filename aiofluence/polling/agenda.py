"""When a watcher looks at those who wait for the end of their provisioning: what it knows, and what follows.

Keeps the estimate, who is in the crowd, and when lists came. Decides; looks at nothing and sets no timer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from .estimate import Crowd, LifeTable, ProvisioningEstimate
from .schedule import Poll, backing_off, cheaper_as_list, cost, next_look

_HEAVY: Final = 5.0
"""From this cost on (about 600 rows) a LIST must be worth more than one look."""
_SHORT: Final = 0.82
"""Of `Poll.interval`, which is a bound: the mean lag is half of a gap, and more where gaps vary."""
_LISTED: Final = 0.37
"""The same for LISTs."""
_LATE: Final = 36.0
"""From this age on, in intervals, no gap is longer than `Poll.interval`: past the times of the guess."""
_SPARSE: Final = 18.0
"""From this age on, in intervals, no gap between GETs is longer than `_SPARSE_SHARE` of the age. This and the
next hold until the first sighting."""
_SPARSE_SHARE: Final = 0.25
_SHORT_LATE: Final = 0.88
"""`_SHORT` for these ages."""
_BATCH: Final = 50
"""With so many pending no gap between LISTs is longer than `Poll.interval`, or `_BATCH_SHARE` of the age."""
_BATCH_SHARE: Final = 0.08
_BATCH_FROM: Final = 8.0
"""From this age on, in intervals."""
_SHARE: Final = 0.1
"""Of the rate that lists may take while others queue at the gate."""


class Agenda:
    """The looks at one kind's crowd. All times are loop times, in seconds."""

    def __init__(self, poll: Poll) -> None:
        self._poll: Final = poll
        self._estimate: Final = ProvisioningEstimate(poll.expected, poll.pace)
        self._births: Counter[int] = Counter()
        """How many of the crowd were born in each bucket of `_width` seconds."""
        self._width: Final = poll.interval / 10
        self._size = 0
        self._list_size = 0.0
        self._asked = -math.inf
        """When the last LIST that came through was asked for."""
        self._came = -math.inf
        """When the last LIST came back, well or not."""
        self._gaps: Iterator[float] | None = None
        """The gaps after failed LISTs, while they fail."""
        self._gap = 0.0
        self._table: LifeTable | None = None
        self._next = math.inf
        self._spare = 0.0
        """Undetected seconds that may still join before the next LIST must be planned anew."""

    # Who

    def add(self, born: float, looked: float | None) -> None:
        """Somebody joins whose provisioning began at `born`, and who was looked at last at `looked`."""
        self._births[int(born // self._width)] += 1
        self._size += 1
        if self._table is None or looked is not None or self._size == 1:
            self._spare = 0.0
        else:
            # Hundreds may join in a second, and most of them change nothing: they cannot be ready by then.
            self._spare -= self._table.undetected(0.0, self._next - born)

    def remove(self, born: float) -> None:
        """Somebody leaves."""
        bucket = int(born // self._width)
        self._births[bucket] -= 1
        self._size -= 1
        if not self._births[bucket]:
            del self._births[bucket]

    def saw(self, born: float, looked: float, now: float) -> None:
        """One that was not ready at `looked` was found settled by `now`."""
        self._estimate.saw(max(looked - born, 0.0), now - born)

    def expected_wait(self, age: float) -> float:
        """Seconds until half of the instances that were still provisioning at `age` have come through."""
        return self._estimate.table().left(age)

    def born_if_due(self, now: float) -> float:
        """Loop time at which provisioning began, of an instance of unknown age: taken to be due now."""
        return now - (self._poll.expected or _LATE * self._poll.interval)

    # How

    def as_list(self, number: int) -> bool:
        """Whether `number` instances are better looked at by one LIST."""
        return cheaper_as_list(number, self._list_size)

    @property
    def by_list(self) -> bool:
        """Whether the crowd is looked at by LIST; by a GET for each otherwise."""
        return self.as_list(self._size)

    def list_came(self, asked: float, now: float, size: int) -> None:
        """A LIST of `size` bytes came through."""
        self._asked, self._came, self._list_size = asked, now, size
        self._gaps, self._gap, self._spare = None, 0.0, 0.0

    def list_failed(self, now: float, *, unreadable: bool) -> None:
        """A LIST failed; one that is `unreadable` twice running (too large, say) is not asked for again."""
        if unreadable and self._gaps is not None:
            self._list_size = math.inf
        self._gaps = self._gaps or backing_off(self._poll.interval)
        self._came, self._gap, self._spare = now, next(self._gaps), 0.0

    def list_refused(self, now: float) -> None:
        """A LIST was answered 401 or 403: the next one follows soon, and shows whether that stays so."""
        self._came, self._gap = now, 0.0
        self._next, self._spare = now, math.inf

    # When

    def soonest(self, rate: float | None) -> float:
        """Before this no LIST; `rate` (a second) is given while others queue at the gate.

        Counted from the last LIST: counted from now, a stream of joiners would push it away for ever.
        """
        shortest = self._poll.interval / 40
        if rate is not None:
            shortest = max(shortest, 1 / (_SHARE * rate))
        return self._came + max(shortest, self._gap)

    def next_list(self, rate: float | None) -> float:
        """When the crowd is to be looked at by LIST; infinite without a crowd."""
        if not self._size:
            return math.inf
        if self._spare <= 0:
            waiting = self._waiting()
            heavy = max(1.0, cost(self._list_size) / _HEAVY)
            price = self._poll.cost * heavy
            self._table = table = self._estimate.table(max(self._asked, waiting[0][0]), waiting)
            # A LIST serves at least two, so that half the gap costs each of them no more than one alone.
            gap = self._poll.interval * min(_LISTED * heavy, _SHORT)
            latest = min(self._latest(table, born, self._asked, gap) for born, _ in waiting)
            latest = min(latest, self._batch_latest(waiting[0][0]))
            self._next = next_look(table, waiting, self._asked, price, latest)
            self._spare = price / 10
        return max(self._next, self.soonest(rate))

    def next_get(self, born: float, looked: float | None) -> float:
        """When one of the crowd is to be looked at by a GET of its own."""
        since = born if looked is None else max(looked, born)
        table = self._estimate.table()
        age, interval = since - born, self._poll.interval
        if age < _SPARSE * interval or self._estimate.has_seen:
            latest = self._latest(table, born, since, _SHORT * interval)
        else:
            latest = self._latest(table, born, since, _SHORT_LATE * interval)
            latest = min(latest, since + _SPARSE_SHARE * age)
        return next_look(table, [(born, 1)], since, self._poll.cost, latest)

    def _latest(self, table: LifeTable, born: float, looked: float, gap: float) -> float:
        """Loop time at which an instance was likely to become ready for `gap` seconds since `looked`."""
        latest = born + table.after(max(looked - born, self._poll.earliest, 0.0), gap)
        return min(latest, max(looked + self._poll.interval, born + _LATE * self._poll.interval))

    def _batch_latest(self, oldest: float) -> float:
        """Loop time of the next LIST at the latest: a batch may become ready all at once.

        The more instances are pending, the dearer that is, and the cheaper a LIST for each of them.
        """
        interval = self._poll.interval
        gap = max(interval, _BATCH_SHARE * (self._asked - oldest)) * math.sqrt(_BATCH / self._size)
        return max(self._asked + max(gap, interval / 4), oldest + _BATCH_FROM * interval)

    def _waiting(self) -> Crowd:
        return [((bucket + 0.5) * self._width, number) for bucket, number in sorted(self._births.items())]
