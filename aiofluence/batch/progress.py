"""Counts of a launch in progress: the number of specs in each state, and the time of each step.

Reports each step to `on_progress`. `report` has the results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from ..background import loop_time
from ..display.table import minutes
from ..display.timeline import Times
from ..errors import FluenceError
from ..models.instances import Instance, InstanceRef
from ..models.specs import Spec
from ..models.values import Kind, Status
from ..polling.estimate import LifeTable
from ..polling.state import WaitHistory
from .report import LaunchState, Outcome

log: Final = logging.getLogger("aiofluence")

PENDING: Final = (LaunchState.QUEUED, LaunchState.POSTING, LaunchState.PROVISIONING)
"""The states that are not final."""
_LATE: Final = 0.95
"""Share of instances that are provisioned before an instance counts as late."""
_MANY: Final = 10
"""Pending instances up to which `high` is that of the last of them. More say little more."""


@attrs.frozen
class Eta:
    """Estimate of the seconds until the last instance of a launch is ready.

    It comes from the provisioning times that the session has seen of each kind, and before the first from the
    times in the service's guides. It takes account of the age of each pending instance, so it is not 0 before
    the last instance is ready.

    Attributes:
        low: seconds by which the youngest instance is ready with a probability of 10 %.
        likely: seconds by which the youngest instance is ready with a probability of 50 %.
        high: seconds by which all instances are ready with a probability of 90 %.
        late: places (`Outcome.index`) of the instances that take longer than 95 % do.
    """

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0
    late: tuple[int, ...] = ()

    def __str__(self) -> str:
        late = f", {len(self.late)} late" if self.late else ""
        return f"about {minutes(self.likely)} min to go ({minutes(self.low)} to {minutes(self.high)}{late})"


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
        eta: likely seconds until the last instance is ready. 0.0 if none is in progress. `estimate()` has the
            range, and may be called again at any later time.
        estimate: function that returns the estimate of the present moment.
    """

    index: int
    spec: Spec
    state: LaunchState
    ref: InstanceRef | None
    instance: Instance | None
    error: FluenceError | None
    counts: Mapping[str, int]
    eta: float
    estimate: Callable[[], Eta] = attrs.field(default=Eta, repr=False, eq=False)


OnProgress: TypeAlias = Callable[[LaunchProgress], object]


class Tally:
    """Counts the specs of a launch by state, and reports each step."""

    def __init__(
        self, total: int, times: Callable[[Kind], LifeTable], on_progress: OnProgress | None
    ) -> None:
        self.counts: dict[str, int] = dict.fromkeys(LaunchState, 0)
        self.counts[LaunchState.QUEUED] = total
        self._total = total
        self._times = times
        self._on_progress = on_progress
        self._began = loop_time()
        self._latest: dict[int, Outcome] = {}
        self._eta = Eta()
        self._estimated = -inf
        self._extra = 0.0
        """Most seconds from ACTIVE to ready so far: `until` may require more than ACTIVE."""

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
        return (loop_time() if moment is None else moment) - self._began

    def move(self, was: LaunchState, outcome: Outcome) -> None:
        """Note that a spec has left the state `was`."""
        state, times = outcome.status, outcome.times
        self.counts[was] -= 1
        self.counts[state] += 1
        if times.ready is not None and times.active is not None:
            self._extra = max(self._extra, times.ready - times.active)
        self.report(outcome)

    def report(self, at: Outcome) -> None:
        """Report the state of a spec. `at` need not be settled."""
        self._latest[at.index] = at
        if self._on_progress is None:
            return
        counts, eta = MappingProxyType(dict(self.counts)), self.estimate().likely
        try:
            self._on_progress(
                LaunchProgress(
                    *(at.index, at.spec, at.status, at.ref, at.instance, at.error),
                    *(counts, eta, self.estimate),
                )
            )
        except Exception:  # a failing progress display must not cost an instance
            log.exception("on_progress failed")

    def estimate(self) -> Eta:
        """Return the estimate of now. It is computed at most once a second, and at the end."""
        now = self.since()
        is_over = not sum(self.counts[state] for state in PENDING)
        if is_over or now >= self._estimated + 1:
            self._eta, self._estimated = Eta() if is_over else self._estimate(now), now
        return self._eta

    def _estimate(self, now: float) -> Eta:
        queued = self.counts[LaunchState.QUEUED]
        sent = self._total - queued
        pending = [outcome for outcome in self._latest.values() if outcome.status in PENDING]
        shares = 0.1, 0.5, 0.9 ** (1 / min(len(pending), _MANY))
        ranges, late = set[tuple[float, ...]](), []
        for outcome in pending:
            named, table, later = outcome.times.named, self._times(outcome.spec.kind), 0.0
            if outcome.status is LaunchState.QUEUED and sent:
                # The last spec of the queue is sent after all others, at the pace so far.
                later = queued * now / sent
            age = 0.0 if named is None else now - named
            ranges.add(tuple(later + table.left(age, share) for share in shares))
            if table.at(max(0.0, age - self._extra))[0] >= _LATE:
                late.append(outcome.index)
        low, likely, high = (max(level) + self._extra for level in zip(*ranges, strict=True))
        return Eta(low, likely, high, tuple(sorted(late)))
