"""When to look: the knobs (`Poll`) and the arithmetic behind the watch, without clock, tasks or requests.

A `Belief` says how long provisioning takes, first by guess and soon by what was seen. `next_look` finds the
moment at which looking is worth its price.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, Literal, TypeAlias

import attrs

from ..errors import ConfigError

Crowd: TypeAlias = Sequence[tuple[float, int]]
"""Who waits, in groups: (loop time at which provisioning began, how many began about then)."""

_SPAN: Final = (1 / 75, 30.0)
"""The table's ages run from nothing to 30 times the expected time; finer than 1/75 of it is one bin."""
_RATIO: Final = 1.04
_PRIOR: Final = ((0.8, 0.25), (0.2, 1.0))
"""The first guess, as (weight, sigma) of lognormals around the expected time. The wide one is the doubt:
without it a straggler would be taken for overdue, and looked at without end."""
_WEIGHT: Final = 10.0
"""How many instances the guess counts for, at each age."""
_MEMORY: Final = 2000.0
"""After that many, what was seen before counts half: the service may change."""
_ENOUGH: Final = 10
"""So many must have been seen before the guess of the earliest moment gives way to what was seen."""


def _of_interval(share: float) -> Any:
    return attrs.field(default=attrs.Factory(lambda poll: poll.interval * share, takes_self=True))


@attrs.frozen
class Poll:
    """How a waiting session looks. One look, a LIST if that is cheaper, serves everybody who waits.

    Whoever waits for minutes needs none of this. In time-lapse give `interval` alone: what is not given
    follows from it, in the proportions of the defaults.

    Attributes:
        interval: seconds; once an instance may be ready, no gap between two looks is longer.
        cost: what a look is worth: the seconds that instances are ready unseen, summed over all who wait.
        expected: seconds that provisioning takes, as a first guess; what is seen soon counts for more.
        earliest: seconds before which nothing is ready, as a first guess.
        prefer: what goes first when the rate is short. `"details"`: what is ready is handed over before more
            is deployed, so that less paid time is idle. `"deploys"`: all of it is deployed first.
    """

    interval: float = 10.0
    cost: float = _of_interval(1 / 2)
    expected: float = _of_interval(15)
    earliest: float = _of_interval(6)
    prefer: Literal["details", "deploys"] = "details"

    def __attrs_post_init__(self) -> None:
        numbers = (self.interval, self.cost, self.expected)
        if not (all(0 < number < math.inf for number in numbers) and self.earliest >= 0):
            raise ConfigError("Poll needs interval, cost and expected > 0, and earliest >= 0")
        if self.prefer not in ("details", "deploys"):
            raise ConfigError(f"Poll prefers 'details' or 'deploys', not {self.prefer!r}")

    @property
    def pace(self) -> float:
        """Real seconds to a second of the default's: 1, and less in time-lapse. Tails keep it, too."""
        return self.interval / 10


@attrs.frozen
class Table:
    """A distribution of provisioning times: at each edge (seconds) its CDF and the area under it so far."""

    edges: Sequence[float]
    cdf: Sequence[float]
    area: Sequence[float]

    def at(self, age: float) -> tuple[float, float]:
        """The CDF at `age`, and its integral from 0 to there. Between edges the CDF is straight."""
        edges = self.edges
        if age >= edges[-1]:
            return self.cdf[-1], self.area[-1] + self.cdf[-1] * (age - edges[-1])
        left = max(bisect_right(edges, age) - 1, 0)
        past = age - edges[left]
        slope = (self.cdf[left + 1] - self.cdf[left]) / (edges[left + 1] - edges[left])
        return self.cdf[left] + slope * past, self.area[left] + (self.cdf[left] + slope * past / 2) * past

    def left(self, age: float) -> float:
        """Median of the seconds that provisioning takes beyond `age`."""
        half = (1 + self.at(age)[0]) / 2
        index = bisect_left(self.cdf, half)
        return max(0.0, self.edges[min(index, len(self.edges) - 1)] - age)

    def undetected(self, age: float, then: float) -> float:
        """E[(then - T)+ | T > age]: how many seconds of being ready go unseen, in the mean, if somebody who
        was not ready at `age` is looked at next at age `then`.
        """
        done, area = self.at(age)
        if then <= age or done >= 1.0:
            return 0.0
        return (self.at(then)[1] - area - done * (then - age)) / (1 - done)


class Belief:
    """How long provisioning takes: a life table. At each age it holds how many came so far and how many of
    those then became ready, or failed; a first guess counts as some that were seen before.

    A life table, because those who still wait are evidence, too: they did not become ready so far.
    """

    def __init__(self, expected: float, earliest: float) -> None:
        first, last = (expected * bound for bound in _SPAN)
        steps = math.ceil(math.log(last / first, _RATIO))
        self._edges: Final = (0.0, *(first * _RATIO**step for step in range(steps + 1)))
        left = [_survival(edge / expected) for edge in self._edges]
        bins = len(self._edges) - 1
        self._guess: Final = [1 - left[i + 1] / left[i] if left[i] > 1e-12 else 0.5 for i in range(bins)]
        self._events = [0.0] * bins
        self._came = [0.0] * bins
        """Of those settled, how many came to each bin; as differences, to be summed up from the left."""
        self._seen = 0
        self._guessed_earliest = earliest
        self._earliest = math.inf

    @property
    def earliest(self) -> float:
        """The age, in seconds, from which on a look is never far: the earliest seen, or the guess of it."""
        if self._seen >= _ENOUGH:
            return self._earliest
        return min(self._guessed_earliest, self._earliest)

    def saw(self, low: float, high: float) -> None:
        """An instance was provisioned, or had failed, between the ages `low` and `high`: two looks at it."""
        if not 0 <= low < high:
            return
        self._seen += 1
        self._earliest = min(self._earliest, high)
        left = 1.0
        self._came[0] += 1.0
        # Spread evenly, not as the belief has it: a belief that feeds itself would never see its mistake.
        for index in range(self._bin(low), self._bin(high) + 1):
            share = (min(high, self._edges[index + 1]) - max(low, self._edges[index])) / (high - low)
            share = min(max(share, 0.0), left)
            self._events[index] += share
            left -= share
            if index + 1 < len(self._came):
                self._came[index + 1] -= share
        if self._seen % _MEMORY == 0:
            self._events = [count / 2 for count in self._events]
            self._came = [count / 2 for count in self._came]

    def table(self, now: float = 0.0, waiting: Crowd = ()) -> Table:
        """The distribution as it is believed, now that `waiting` still wait."""
        through = [0.0] * len(self._guess)
        came = list(accumulate(self._came))
        for began, number in waiting:
            if (age := now - began) > 0:
                last = self._bin(age)
                through[last] += number
                # Of the bin they are in, they have lived through a part.
                width = self._edges[last + 1] - self._edges[last]
                came[last] += number * (min((age - self._edges[last]) / width, 1.0) - 1)
        lived = list(accumulate(reversed(through)))[::-1]
        return self._table([a + b for a, b in zip(came, lived, strict=True)])

    def _table(self, came: list[float]) -> Table:
        edges, cdf, area, left = self._edges, [0.0], [0.0], 1.0
        for index, guess in enumerate(self._guess):
            risk = (_WEIGHT * guess + self._events[index]) / (_WEIGHT + came[index])
            width = edges[index + 1] - edges[index]
            area.append(area[-1] + (1 - left * (1 - risk / 2)) * width)
            left *= 1 - min(risk, 1.0)
            cdf.append(1 - left)
        return Table(edges, cdf, area)

    def _bin(self, age: float) -> int:
        return min(bisect_right(self._edges, age) - 1, len(self._guess) - 1)


def _survival(ratio: float) -> float:
    """The guess: the share that takes longer than `ratio` times the expected time."""
    if ratio <= 0:
        return 1.0
    return sum(weight * math.erfc(math.log(ratio) / sigma / math.sqrt(2)) / 2 for weight, sigma in _PRIOR)


def next_look(table: Table, waiting: Crowd, looked: float, price: float, latest: float) -> float:
    """When to look next: the undetected seconds of all who wait, summed, then come to `price`.

    Args:
        table: how long provisioning takes.
        waiting: who waits.
        looked: when they were looked at last, none of them being ready (loop time).
        price: what a look is worth, in waiter-seconds.
        latest: look by then, in any case.
    """
    known = []
    for began, number in waiting:
        done, area = table.at(max(looked - began, 0.0))
        if done < 1.0:
            known.append((began, max(looked - began, 0.0), done, area, number / (1 - done)))
    then = latest
    # Newton's method: the sum is convex in time, so that it comes down on the answer from the right.
    for _ in range(40):
        total = slope = 0.0
        for began, age, done, area, scale in known:
            if then - began > age:
                reached, upto = table.at(then - began)
                total += scale * (upto - area - done * (then - began - age))
                slope += scale * (reached - done)
        if total <= price * 1.01 or slope <= 0:
            break
        then = max(then - (total - price) / slope, looked)
    return then


def backing_off(longest: float) -> Iterator[float]:
    """Gaps for what should show soon: from 1/20 of `longest` seconds up to it, growing by half."""
    gap = longest / 20
    while True:
        yield gap
        gap = min(gap * 1.5, longest)


def cheaper_as_list(waiting: int, list_size: float) -> bool:
    """Whether one LIST of `list_size` bytes costs less than a GET for each of `waiting` instances.

    A request costs 1 and another 1 for each 64 kB it brings. One alone is better asked for by its id.
    """
    return waiting > 1 and cost(list_size) < waiting


def cost(size: float) -> float:
    """What a request that brings `size` bytes costs, in requests."""
    return 1 + size / 65536
