"""Event tails: new events are the multiset difference of successive lists.

The service lists events by object, not by time, so new events may appear anywhere, and old ones vanish. Two
events with the same text count as two only while the list contains both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import attrs

from ..http.messages import Answer, Priority
from ..lifecycle.crash_loop import back_off
from ..models.instances import InstanceRef
from ..models.logs import Event
from ..models.values import ContainerStatus, Status
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints
from .follower import LONGEST_INTERVAL, Follower, OneTail

_SHORTEST_INTERVAL: Final = 2.0
_DETAILS_DOWN: Final = 2
"""Number of details in a row, 45 s apart, that must show NOT_STARTED. A single restart is over by then."""
_DOUBT: Final = 120.0
"""Seconds for which an event that vanished out of turn still counts: the reply may have been a stale one."""


@attrs.define
class _Delivered:
    """The delivered events of one text: delivery times of those listed, and since when some are missing."""

    at: list[float] = attrs.field(factory=list)
    missing: float | None = None


class NewEvents:
    """Find the new events in each list. Pure.

    The cluster forgets the oldest events first. If an event is missing while older ones are listed, the reply
    is more probably stale than the event forgotten. So the event counts as delivered for two more minutes.
    """

    def __init__(self) -> None:
        self._delivered: dict[str, _Delivered] = {}

    def take(self, events: Iterable[Event], now: float) -> list[Event]:
        """Return the new events among `events`, in their order. `now` is in seconds of any one clock."""
        events = list(events)
        present = Counter(event.raw for event in events)
        self._forget(present, now)
        new: list[Event] = []
        for event in reversed(events):  # among equal events, the last is the newest
            delivered = self._delivered.setdefault(event.raw, _Delivered())
            if present[event.raw] > len(delivered.at):
                delivered.at.append(now)
                new.append(event)
        new.reverse()
        return new

    def _forget(self, present: Counter[str], now: float) -> None:
        listed = (
            (delivered, min(present[raw], len(delivered.at))) for raw, delivered in self._delivered.items()
        )
        oldest_listed = min((delivered.at[-count] for delivered, count in listed if count), default=None)
        for raw, delivered in tuple(self._delivered.items()):
            gone = len(delivered.at) - present[raw]
            if gone <= 0:
                delivered.missing = None
                continue
            if delivered.missing is None:
                delivered.missing = now
            in_turn = oldest_listed is not None and delivered.at[gone - 1] < oldest_listed
            if in_turn or now - delivered.missing >= _DOUBT:
                del delivered.at[:gone]
                delivered.missing = None
                if not delivered.at:
                    del self._delivered[raw]


class LoopAgain:
    """Detect crash loops that bring no new event, because the cluster folds a repeat into an older one. Pure.

    A container loops again if it has run since its last back-off, and two successive details show
    NOT_STARTED. The cluster must still list the back-off.
    """

    def __init__(self) -> None:
        self._is_reported = False
        self._details_down = 0

    def took(self, new: Iterable[Event]) -> None:
        """Note the new events. A back-off among them reports the loop by itself."""
        self._is_reported = self._is_reported or back_off(new) is not None

    def looked(self, listed: Iterable[Event], *, is_started: bool) -> list[Event]:
        """Note a detail of an ACTIVE container, and return the back-offs to deliver again."""
        if is_started:
            self._is_reported = False
            self._details_down = 0
            return []
        self._details_down += 1
        listed = list(listed)
        if self._is_reported or self._details_down < _DETAILS_DOWN or back_off(listed) is None:
            return []
        self._is_reported = True
        return [event for event in listed if event.reason == "BackOff"]


class _FollowEvents(Follower[Event]):
    """The events of one container, poll by poll."""

    def __init__(self, endpoints: Endpoints, ref: InstanceRef, pace: float, evidence: Evidence) -> None:
        super().__init__(endpoints, ref, pace, evidence)
        self._new = NewEvents()
        self._again = LoopAgain()
        self._listed: list[Event] = []
        self._gap = _SHORTEST_INTERVAL

    def _take_detail(self, answer: Answer) -> None:
        status = answer.value.get("container_status") if type(answer.value) is dict else None
        if self._endpoints.status_of(answer) is Status.ACTIVE and type(status) is str:
            is_started = status != ContainerStatus.NOT_STARTED
            self.ready.extend(self._again.looked(self._listed, is_started=is_started))

    async def _fetch(self, now: float) -> bool:
        # Never with `last`: the list is ordered by name, so its end is not its newest part.
        self._listed = await self._endpoints.events(self.ref.id, priority=Priority.TAIL)
        new = self._new.take(self._listed, now)
        self._again.took(new)
        self.ready.extend(new)
        self._gap = _SHORTEST_INTERVAL if new else min(self._gap * 1.5, LONGEST_INTERVAL)
        return bool(new)

    def _interval(self) -> float:
        return self._gap

    def _finish(self, *, all_seen: bool) -> None:
        pass  # nothing is ever held back


class EventTail(OneTail[Event]):
    """All events of a container, beginning with those already listed. Ends when the container has ended.

    The tail misses events that the cluster forgets between two polls. It also misses repeats of an event that
    is still listed: Kubernetes increments a count for those, and the service does not return the count. One
    repeat is reported: when a container begins to crash again, its back-off is delivered once more, about two
    minutes after the container has stopped running.
    """

    def __init__(self, endpoints: Endpoints, ref: InstanceRef, pace: float, evidence: Evidence) -> None:
        super().__init__(endpoints, _FollowEvents(endpoints, ref, pace, evidence))
