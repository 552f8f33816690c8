"""Judgement of the signs that a container's program exits again and again, or cannot be pulled.

A pure function from signs to a verdict. `crash_watch` sends the requests. All times are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from ..models.logs import Event, LogLine

Cause: TypeAlias = Literal["exits", "no image"]

FIRST_EVENTS: Final = 15.0
"""Seconds without a run after which the first events are requested."""
_AGAIN: Final = 25.0
"""Seconds between two requests for events, and the least distance of the two back-offs that prove a loop."""
_LONGEST: Final = 240.0
"""Longest time between two requests for events, in seconds."""
_NO_RUN: Final = 40.0
"""Seconds without a run before a container counts as looping. A kubelet that backs off by 10, 20 and 40 s
(Kubernetes' documentation, "Pod Lifecycle") has started a program four times by then."""
_NO_IMAGE: Final = 60.0
"""As `_NO_RUN`, for an image that cannot be pulled: a registry may have been down for a moment."""
_LIKE_OTHERS: Final = 60.0
"""As `_NO_RUN`, for a container whose program loops in `WITNESSES` other containers."""
WITNESSES: Final = 3
"""Containers of one program whose events are requested. Their verdict holds for the other containers."""
_STOPS: Final = 3
"""Number of ended runs from which on a container counts as looping, if the events list a back-off."""
_STOPS_ALONE: Final = 5
"""As `_STOPS`, if no events can be had."""
_STEADY: Final = 10.0
"""Seconds that a program must run to count as started, if it was seen not running. This costs no time while
the network of a new container takes longer."""


@attrs.define
class Signs:
    """The signs that polls of one ACTIVE container, and its events, have shown so far.

    Attributes:
        down_since: time of the first poll in the present series with NOT_STARTED, which short runs do not
            end. None while the program runs.
        up_since: time of the first poll in the present series with STARTED. None while it does not run.
        first_down: time of the first poll that showed NOT_STARTED. None before it.
        stops: number of polls that showed NOT_STARTED after one that showed STARTED.
        cause: cause of the back-off in the latest events. None without a back-off.
        since: time of the first of the latest replies that listed a back-off, without a run between them.
        latest: time of the latest of those replies.
        asked: time of the latest request for events. None before the first.
        pause: seconds until events may be requested again.
        events: latest events.
        logs: latest log lines.
    """

    down_since: float | None = None
    up_since: float | None = None
    first_down: float | None = None
    stops: int = 0
    cause: Cause | None = None
    since: float | None = None
    latest: float | None = None
    asked: float | None = None
    pause: float = _AGAIN
    events: tuple[Event, ...] = ()
    logs: tuple[LogLine, ...] = ()

    def note_poll(self, now: float, *, is_started: bool) -> None:
        """Note a poll of the container's detail."""
        if is_started:
            self.up_since = now if self.up_since is None else self.up_since
            if self.is_steady(now):
                self.down_since = self.since = self.latest = None
        else:
            self.stops += self.up_since is not None
            self.up_since = None
            self.down_since = now if self.down_since is None else self.down_since
            self.first_down = now if self.first_down is None else self.first_down

    def note_request(self, now: float) -> None:
        """Note a request for events."""
        self.pause = _AGAIN if self.asked is None else min(2 * self.pause, _LONGEST)
        self.asked = now

    def note_events(self, events: Sequence[Event], now: float) -> None:
        """Note the events in a reply."""
        self.events = tuple(events)
        self.cause = back_off(events)
        if self.cause is None or self.down_since is None:
            self.since = self.latest = None
        else:
            self.since = now if self.since is None else self.since
            self.latest = now
        if self.cause is not None:
            self.pause = _AGAIN

    def wants_events(self, now: float) -> bool:
        """Return True if the polls so far are suspicious enough for a request for events."""
        if self.asked is not None and now - self.asked < self.pause:
            return False
        is_down = self.up_since is None
        return is_down and (self.stops >= _STOPS - 1 or self.no_run(now) >= FIRST_EVENTS)

    def no_run(self, now: float) -> float:
        """Seconds without a run that lasted. 0.0 while the program runs."""
        return 0.0 if self.down_since is None else now - self.down_since

    def is_steady(self, now: float, *, is_doubted: bool = False) -> bool:
        """Return True if the program runs and is likely to keep running.

        A program that was seen not running must run for a while: it may exit again at once.

        Args:
            now: the present time.
            is_doubted: the same program has exited in another container.
        """
        if self.up_since is None:
            return False
        is_new = is_doubted or self.cause is not None or self.first_down is not None
        return not is_new or now - self.up_since >= _STEADY


def judge(signs: Signs, now: float, *, siblings: int = 0) -> Cause | None:
    """Cause of a crash loop. None while the signs do not prove a loop.

    A slow start, a single restart and an old back-off of a container that runs again prove nothing.

    Args:
        signs: signs of the container.
        now: the present time.
        siblings: number of other containers of the same program that are proven to loop.
    """
    if signs.up_since is not None or signs.first_down is None:
        return None
    if now - signs.first_down >= _NO_RUN:
        if signs.cause and signs.stops >= _STOPS:
            return signs.cause
        if not signs.events and signs.stops >= _STOPS_ALONE:
            return "exits"
    down = signs.no_run(now)
    if siblings >= WITNESSES and down >= _LIKE_OTHERS:
        return "exits"
    if signs.cause is None or signs.since is None or signs.latest is None:
        return None
    is_repeated = signs.latest - signs.since >= _AGAIN
    return signs.cause if is_repeated and down >= (_NO_RUN if signs.cause == "exits" else _NO_IMAGE) else None


def back_off(events: Iterable[Event]) -> Cause | None:
    """Cause of the back-off that the events list for the present pod. None without a back-off.

    The events of a pod that an update or an end has stopped do not count.
    """
    events = list(events)
    stopped = {event.object for event in events if _is_stopped(event)}
    pulled = {event.object for event in events if event.reason == "Pulled"}
    cause: Cause | None = None
    for event in events:
        if event.reason != "BackOff" or event.object in stopped:
            continue
        if "pulling" not in event.message.lower():
            return "exits"
        if event.object not in pulled:
            cause = "no image"
    return cause


def _is_stopped(event: Event) -> bool:
    # A failed liveness probe is a `Killing`, too, and its pod stays.
    return event.reason == "Killing" and event.message.startswith("Stopping container")
