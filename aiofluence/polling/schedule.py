"""The options of polling (`Poll`), and the time of the next poll.

Arithmetic without clock, tasks or requests. `estimate` has the provisioning times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from ..errors import ConfigError
from .estimate import LifeTable, Pending


def _of_interval(share: float) -> Any:
    return attrs.field(default=attrs.Factory(lambda poll: poll.interval * share, takes_self=True))


@attrs.frozen
class Poll:
    """Options of the polls. One poll serves all waits of a session, by LIST if that is cheaper.

    Waits of minutes need no options. In time-lapse, give `interval` alone: the other defaults follow from
    `interval` in proportion.

    Attributes:
        interval: longest gap between two polls, in seconds, while an instance is likely to become ready.
        cost: cost of a poll, in seconds for which instances are ready but undetected, summed over all waits.
        expected: first guess of the seconds that provisioning takes. Observed times soon outweigh the guess.
            None is a mixture around the times that the service's guides show.
        earliest: seconds before which no instance is ready. Until then `interval` is no limit.
        prefer: the requests that go first when the rate is short. `"details"` hands ready instances over
            before further deploys, so that less paid time is idle. `"deploys"` sends all deploys first.
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
        """Real seconds to a second of the default's: 1, and less in time-lapse. Tails use it, too."""
        return self.interval / 10


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
