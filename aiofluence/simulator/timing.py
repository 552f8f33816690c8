"""Time: the queue of future actions, and the durations of provisioning.

All times are simulated seconds. `world` defines the actions.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from random import Random
from typing import TypeAlias

import attrs

Action: TypeAlias = Callable[[float], None]


_at_least_zero = attrs.validators.ge(0.0)


@attrs.frozen
class Provisioning:
    """Durations in seconds, and the share of provisionings that fail.

    Attributes:
        median: median of the lognormal time from deploy to ACTIVE or FAILED.
        machine_median: `median` for VMs and bare metal. None means `median`.
        failed_machine_median: `median` for VMs and bare metal that fail. None means `machine_median`.
        sigma: spread of the time. 0 makes every provisioning take exactly its median.
        failure_rate: share of provisionings that end FAILED, 0 to 1.
        start_delay: time from ACTIVE to the start of the container.
        network_delay: time from ACTIVE to the container's network.
        domain_delay: time from the network to its domain.
        update_delay: time from the PUT of a container to its new configuration.
    """

    median: float = attrs.field(default=150.0, validator=_at_least_zero)
    machine_median: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least_zero), kw_only=True
    )
    failed_machine_median: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least_zero), kw_only=True
    )
    sigma: float = attrs.field(default=0.25, validator=_at_least_zero)
    failure_rate: float = attrs.field(default=0.0, validator=[_at_least_zero, attrs.validators.le(1.0)])
    start_delay: float = attrs.field(default=4.0, validator=_at_least_zero)
    network_delay: float = attrs.field(default=6.0, validator=_at_least_zero)
    domain_delay: float = attrs.field(default=15.0, validator=_at_least_zero)
    update_delay: float = attrs.field(default=20.0, validator=_at_least_zero)

    def draw(self, rng: Random) -> float:
        """Draw the factor by which one provisioning time differs from its median."""
        return math.exp(rng.gauss(0.0, self.sigma))

    def median_of(self, *, machine: bool, fails: bool) -> float:
        """Return the median provisioning time of a kind and an outcome, in seconds."""
        if machine and fails and self.failed_machine_median is not None:
            return self.failed_machine_median
        if machine and self.machine_median is not None:
            return self.machine_median
        return self.median


class Schedule:
    """Future actions, ordered by time. Time never goes back."""

    def __init__(self) -> None:
        self.now: float = 0.0
        self._order = count()
        self._due: list[tuple[float, int, Action]] = []

    def at(self, when: float, action: Action) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def advance(self, now: float) -> None:
        """Run all actions up to `now`, each at its own time."""
        while self._due and self._due[0][0] <= now:
            when, _, action = heapq.heappop(self._due)
            self.now = max(self.now, when)
            action(self.now)
        self.now = max(self.now, now)
