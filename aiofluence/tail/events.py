"""Following what the cluster says about a container: new events found as a multiset difference.

The service lists events by object, not by time, so new ones may appear anywhere, and old ones vanish. What
is told twice in equal words is two events only while the list holds both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import attrs

from ..lifecycle.evidence import Evidence
from ..models.instances import InstanceRef
from ..models.output import Event
from ..protocol import Lane
from ..resources.containers import Containers
from .follow import LONGEST_INTERVAL, Follow, OneTail

_SHORTEST_INTERVAL: Final = 2.0
_DOUBT: Final = 120.0
"""Seconds for which what vanished out of turn still counts: the answer may have been an old one."""


@attrs.define
class _Told:
    """One text: when each of those was told that are still listed, and since when some are missing."""

    at: list[float] = attrs.field(factory=list)
    missing: float | None = None


class NewEvents:
    """Which events of an answer are new. Pure.

    The cluster forgets the oldest first, so an event that is missing while older ones stand is more
    probably an old answer than a forgotten event: it counts as told for two more minutes.
    """

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def take(self, events: Iterable[Event], now: float) -> list[Event]:
        """The new ones among `events`, in their order; `now` in seconds of any one clock."""
        events = list(events)
        present = Counter(event.raw for event in events)
        self._forget(present, now)
        new: list[Event] = []
        for event in reversed(events):  # of several equal ones, the last is the newest
            told = self._told.setdefault(event.raw, _Told())
            if present[event.raw] > len(told.at):
                told.at.append(now)
                new.append(event)
        new.reverse()
        return new

    def _forget(self, present: Counter[str], now: float) -> None:
        listed = ((told, min(present[raw], len(told.at))) for raw, told in self._told.items())
        standing = min((told.at[-count] for told, count in listed if count), default=None)
        for raw, told in tuple(self._told.items()):
            gone = len(told.at) - present[raw]
            if gone <= 0:
                told.missing = None
                continue
            if told.missing is None:
                told.missing = now
            in_turn = standing is not None and told.at[gone - 1] < standing
            if in_turn or now - told.missing >= _DOUBT:
                del told.at[:gone]
                told.missing = None
                if not told.at:
                    del self._told[raw]


class _FollowEvents(Follow[Event]):
    """One container's events, poll by poll."""

    def __init__(self, containers: Containers, ref: InstanceRef, pace: float, evidence: Evidence) -> None:
        super().__init__(containers, ref, pace, evidence)
        self._new = NewEvents()
        self._gap = _SHORTEST_INTERVAL

    async def _fetch(self, now: float) -> bool:
        # Never with `last`: the end of a list that is ordered by name is not what is newest.
        events = await self._containers.events(self.ref.id, lane=Lane.TAIL)
        new = self._new.take(events, now)
        self.ready.extend(new)
        self._gap = _SHORTEST_INTERVAL if new else min(self._gap * 1.5, LONGEST_INTERVAL)
        return bool(new)

    def _interval(self) -> float:
        return self._gap

    def _finish(self, *, all_seen: bool) -> None:
        pass  # nothing is ever held back


class EventTail(OneTail[Event]):
    """Every event of a container, those that are there already first; ends when the container has.

    Events that were forgotten by the cluster between two polls, or repeat one that it still lists, are not
    seen: Kubernetes counts a repeat up instead of listing it, and the service does not tell the count.
    """

    def __init__(self, containers: Containers, ref: InstanceRef, pace: float, evidence: Evidence) -> None:
        super().__init__(_FollowEvents(containers, ref, pace, evidence))
