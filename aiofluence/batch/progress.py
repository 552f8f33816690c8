"""Counts of a launch in progress: the number of specs in each state, and the time of each step.

Reports each step to `on_progress`. `report` has the results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from ..display.timeline import Times
from ..errors import FluenceError
from ..models.instances import Instance, InstanceRef
from ..models.specs import Spec
from ..models.values import Status
from ..polling.state import WaitHistory
from .report import LaunchState, Outcome

log: Final = logging.getLogger("aiofluence")

_TYPICAL: Final = 150.0
"""Seconds that provisioning is assumed to take before the first instance of a launch is active."""


@attrs.frozen
class LaunchProgress:
    """A step of one spec in a launch.

    Attributes:
        index: place of the spec in the launch, from 0.
        spec: spec of the present attempt. After a fallback, it differs from the given one.
        state: new state of the spec.
        ref: the instance. None before it has an id.
        instance: the instance when it became active. None before.
        error: error that made the spec fail. None without one.
        counts: number of specs of the launch in each state now.
        eta: rough number of seconds until the last instance is active, from the times of earlier instances
            of this launch. The first is assumed to take 150 s. 0.0 if none is in progress.
    """

    index: int
    spec: Spec
    state: LaunchState
    ref: InstanceRef | None
    instance: Instance | None
    error: FluenceError | None
    counts: Mapping[str, int]
    eta: float


OnProgress: TypeAlias = Callable[[LaunchProgress], object]


class Tally:
    """Counts the specs of a launch by state, and reports each step."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.counts: dict[str, int] = dict.fromkeys(LaunchState, 0)
        self.counts[LaunchState.QUEUED] = total
        self._total = total
        self._on_progress = on_progress
        self._began = _now()
        self._last_named = 0.0
        self._took = 0.0

    def stamp(self, times: Times, state: LaunchState, history: WaitHistory | None) -> Times:
        """Return `times` with now as the time at which `state` began, or another deploy."""
        now = self.since()
        if times.active is None and history is not None:
            active = next((each.after for each in history.timeline if each.status is Status.ACTIVE), None)
            if active is not None:
                times = attrs.evolve(times, active=self.since(history.began + active))
        match state:
            case LaunchState.QUEUED:  # the POST was not sent, and is retried
                return times
            case LaunchState.POSTING:
                return attrs.evolve(times, posted=(*times.posted, now))
            case LaunchState.PROVISIONING:
                return attrs.evolve(times, named=now)
            case LaunchState.ACTIVE:
                return attrs.evolve(times, ready=now)
            case _:
                return attrs.evolve(times, ended=now)

    def since(self, moment: float | None = None) -> float:
        """Seconds from the beginning of the launch to the loop time `moment`, or to now."""
        return (_now() if moment is None else moment) - self._began

    def move(self, was: LaunchState, outcome: Outcome) -> None:
        """Note that a spec has left the state `was`."""
        state, times = outcome.status, outcome.times
        self.counts[was] -= 1
        self.counts[state] += 1
        if state is LaunchState.PROVISIONING:
            self._last_named = self.since()
        elif state is LaunchState.ACTIVE and times.ready is not None and times.named is not None:
            self._took += times.ready - times.named
        self.report(outcome)

    def report(self, at: Outcome) -> None:
        """Report the state of a spec. `at` need not be settled."""
        if self._on_progress is None:
            return
        counts = MappingProxyType(dict(self.counts))
        try:
            self._on_progress(
                LaunchProgress(
                    at.index, at.spec, at.status, at.ref, at.instance, at.error, counts, self._eta()
                )
            )
        except Exception:  # a failing progress display must not cost an instance
            log.exception("on_progress failed")

    def _eta(self) -> float:
        queued, posting = self.counts[LaunchState.QUEUED], self.counts[LaunchState.POSTING]
        if not (queued or posting or self.counts[LaunchState.PROVISIONING]):
            return 0.0
        ready = self.counts[LaunchState.ACTIVE]
        typical = self._took / ready if ready else _TYPICAL
        if not (queued or posting):
            return max(0.0, self._last_named + typical - self.since())
        sent = self._total - queued
        return typical + (queued * self.since() / sent if sent else 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
