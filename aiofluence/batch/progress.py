"""Keeps count of a launch while it is under way: how many specs are in each state, and when each came there.

Tells whoever listens of each step. What came of it all is `report`'s.
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
from ..polling.history import WaitHistory
from .report import LaunchState, Outcome

log: Final = logging.getLogger("aiofluence")

_TYPICAL: Final = 150.0
"""Seconds that provisioning takes, as long as a launch has seen none."""


@attrs.frozen
class LaunchProgress:
    """One spec of a launch has come a step further.

    Attributes:
        index: the place of the spec in the launch, from 0.
        spec: the spec; after a fallback the one that is now tried.
        state: how far it has come.
        ref: the instance, once it has an id.
        instance: the instance as it was when it became active, else None.
        error: why it failed, if it did.
        counts: how many specs of the launch are in each state now.
        eta: seconds until the last one will be active, roughly: by how long this launch's own have taken,
            150 s until the first of them is; 0.0 when nothing is under way.
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
    """Counts the specs of a launch by state, and tells of each step."""

    def __init__(self, total: int, hear: OnProgress | None) -> None:
        self.counts: dict[str, int] = dict.fromkeys(LaunchState, 0)
        self.counts[LaunchState.QUEUED] = total
        self._total = total
        self._hear = hear
        self._began = _now()
        self._last_named = 0.0
        self._took = 0.0

    def stamp(self, times: Times, state: LaunchState, seen: WaitHistory | None) -> Times:
        """`times`, with this moment as the one at which `state` came, or another deploy began."""
        now = self.since()
        if times.active is None and seen is not None:
            active = next((look.after for look in seen.timeline if look.status is Status.ACTIVE), None)
            if active is not None:
                times = attrs.evolve(times, active=self.since(seen.began + active))
        match state:
            case LaunchState.QUEUED:  # nothing was sent, and it is tried again
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
        """Seconds from the launch's beginning to that loop time; without one, to now."""
        return (_now() if moment is None else moment) - self._began

    def move(self, was: LaunchState, outcome: Outcome) -> None:
        """A spec has left the state `was`."""
        state, times = outcome.status, outcome.times
        self.counts[was] -= 1
        self.counts[state] += 1
        if state is LaunchState.PROVISIONING:
            self._last_named = self.since()
        elif state is LaunchState.ACTIVE and times.ready is not None and times.named is not None:
            self._took += times.ready - times.named
        self.tell(outcome)

    def tell(self, at: Outcome) -> None:
        """Tell where a spec is; `at` may be one that has not settled."""
        if self._hear is None:
            return
        counts = MappingProxyType(dict(self.counts))
        try:
            self._hear(
                LaunchProgress(
                    at.index, at.spec, at.status, at.ref, at.instance, at.error, counts, self._eta()
                )
            )
        except Exception:  # what shows the progress must not cost an instance
            log.exception("on_progress failed")

    def _eta(self) -> float:
        queued, posting = self.counts[LaunchState.QUEUED], self.counts[LaunchState.POSTING]
        if not (queued or posting or self.counts[LaunchState.PROVISIONING]):
            return 0.0
        seen = self.counts[LaunchState.ACTIVE]
        typical = self._took / seen if seen else _TYPICAL
        if not (queued or posting):
            return max(0.0, self._last_named + typical - self.since())
        sent = self._total - queued
        return typical + (queued * self.since() / sent if sent else 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
