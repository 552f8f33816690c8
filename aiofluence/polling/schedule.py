"""The options of polling (`Poll`), and the time of the next poll.

Arithmetic without clock, tasks or requests; provisioning times are `estimate`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from ..errors import ConfigError
from .estimate import Crowd, LifeTable


def _of_interval(share: float) -> Any:
    return attrs.field(default=attrs.Factory(lambda poll: poll.interval * share, takes_self=True))


@attrs.frozen
class Poll:
    """How a waiting session looks. One look, a LIST if that is cheaper, serves everybody who waits.

    Whoever waits for minutes needs none of this. In time-lapse give `interval` alone: what is not given
    follows from it, in the proportions of the defaults.

    Attributes:
        interval: longest gap between two polls, in seconds, while an instance is likely to become ready.
        cost: what a look is worth: the seconds that instances are ready unseen, summed over all who wait.
        expected: seconds that provisioning takes, as a first guess; what is seen soon counts for more.
            None is the times that the service's guides show, and more.
        earliest: seconds before which nothing is ready: until then `interval` is no limit.
        prefer: what goes first when the rate is short. `"details"`: what is ready is handed over before more
            is deployed, so that less paid time is idle. `"deploys"`: all of it is deployed first.
    """

    interval: float = 10.0
    cost: float = _of_interval(1 / 2)
    expected: float | None = None
    earliest: float = 0.0
    prefer: Literal["details", "deploys"] = "details"

    def __attrs_post_init__(self) -> None:
        numbers = (self.interval, self.cost, 1.0 if self.expected is None else self.expected)
        if not (all(0 < number < math.inf for number in numbers) and self.earliest >= 0):
            raise ConfigError("Poll needs interval, cost and expected > 0, and earliest >= 0")
        if self.prefer not in ("details", "deploys"):
            raise ConfigError(f"Poll prefers 'details' or 'deploys', not {self.prefer!r}")

    @property
    def pace(self) -> float:
        """Real seconds to a second of the default's: 1, and less in time-lapse. Tails keep it, too."""
        return self.interval / 10


def next_look(table: LifeTable, waiting: Crowd, looked: float, price: float, latest: float) -> float:
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
                detail_matches, upto = table.at(then - began)
                total += scale * (upto - area - done * (then - began - age))
                slope += scale * (detail_matches - done)
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
