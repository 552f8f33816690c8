"""Crash loops: containers whose program exits again and again, or whose image cannot be pulled.

`judge` is a pure function from signs to a verdict; its times are seconds of one clock. If a container has not
started some time after ACTIVE, `LoopWatch` requests its events. Of many containers of one program, only a few
cost requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from ..background import BackgroundTasks, loop_time
from ..errors import FluenceError, InstanceFailedError, NotSentError
from ..models.instances import Container
from ..models.logs import Event, LogLine
from ..models.values import ContainerStatus, Status
from ..polling.state import WaitHistory
from ..resources.endpoints import Endpoints

Cause: TypeAlias = Literal["exits", "no image"]
_Program: TypeAlias = tuple[str, str | None]

EVIDENCE: Final = 20
"""Number of log lines in an InstanceFailedError."""
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


@attrs.define(eq=False)
class _Shared:
    """Knowledge that the waits for containers of one program share.

    Attributes:
        program: image and startup command.
        waits: number of the waits. The last one drops the knowledge.
        asked: ids of the containers whose events are requested.
        proven: watches of containers that loop, by their own events, with their ids as keys.
        is_doubted: the events of a container list a back-off.
    """

    program: _Program
    waits: int = 0
    asked: set[str] = attrs.field(factory=set)
    proven: dict[str, LoopWatch] = attrs.field(factory=dict)
    is_doubted: bool = False


class Loops:
    """The watches for crash loops of one session."""

    def __init__(self, containers: Endpoints, tasks: BackgroundTasks, pace: float) -> None:
        self.containers: Final = containers
        self.tasks: Final = tasks
        self.pace: Final = pace
        self.shared: Final[dict[_Program, _Shared]] = {}


class LoopWatch:
    """The watch of one wait over the runs of its container."""

    def __init__(self, loops: Loops, history: WaitHistory) -> None:
        self.signs: Final = Signs()
        self._loops = loops
        self._history = history
        self._shared: _Shared | None = None
        self._asking = False
        self.has_logs: bool = False
        """The log of the failure's container was requested."""

    def is_running(self, container: Container) -> bool:
        """Note a detail of an ACTIVE container. Return True if its program is likely to keep running.

        Raises:
            InstanceFailedError: the program exits again and again, or its image cannot be pulled.
        """
        signs, now = self.signs, self._now()
        is_started = container.container_status is ContainerStatus.STARTED
        if container.status is not Status.ACTIVE:
            return is_started
        signs.note_poll(now, is_started=is_started)
        shared = self._join(container)
        cause = judge(signs, now, siblings=len(shared.proven.keys() - {self._history.ref.id}))
        if cause is not None:
            raise self._failure(cause, container, shared, now)
        if signs.wants_events(now) and not self._asking and self._may_ask(shared):
            signs.note_request(now)
            shared.asked.add(self._history.ref.id)
            with contextlib.suppress(NotSentError):  # the session closes
                _ = self._loops.tasks.spawn(self._ask(shared))
        return signs.is_steady(now, is_doubted=shared.is_doubted)

    def close(self) -> None:
        """End the watch: its wait is over."""
        if self._shared is not None:
            self._shared.asked.discard(self._history.ref.id)
            self._shared.waits -= 1
            if not self._shared.waits:
                del self._loops.shared[self._shared.program]
            self._shared = None

    def _join(self, container: Container) -> _Shared:
        if self._shared is None:
            program = container.container_info.image, container.container_info.startup_command
            self._shared = self._loops.shared.setdefault(program, _Shared(program))
            self._shared.waits += 1
        return self._shared

    def _may_ask(self, shared: _Shared) -> bool:
        return self._history.ref.id in shared.asked or len(shared.asked | shared.proven.keys()) < WITNESSES

    async def _ask(self, shared: _Shared) -> None:
        """Request the events and, once they prove a loop, the last lines of the log."""
        self._asking = True
        containers, id = self._loops.containers, self._history.ref.id
        try:
            with contextlib.suppress(FluenceError):
                self.signs.note_events(await containers.events(id), self._now())
                shared.is_doubted = shared.is_doubted or self.signs.cause is not None
                if judge(self.signs, self._now()) is not None:
                    try:
                        self.signs.logs = tuple(await containers.logs(id, last=EVIDENCE))
                        self.has_logs = True
                    finally:  # not before: other waits show these lines
                        shared.proven[id] = self
        finally:
            self._asking = False

    def _failure(
        self, cause: Cause, container: Container, shared: _Shared, now: float
    ) -> InstanceFailedError:
        ref = self._history.ref
        shown, like = self.signs, ""
        if self.signs.cause:
            shared.proven[ref.id] = self
        elif shared.proven:
            self.has_logs, shown = True, next(iter(shared.proven.values())).signs
            names = [watch._history.ref.name for watch in shared.proven.values()]
            like = f", as do {', '.join(names)}, of the same image (the events are {names[0]}'s)"
        image = container.container_info.image
        what = (
            f"its program exits and is started again and again (a crash loop of {image})"
            if cause == "exits"
            else f"its image {image} cannot be pulled"
        )
        seconds = self.signs.no_run(now)
        since = f"NOT_STARTED for {seconds:.0f} s" if seconds else f"{self.signs.stops} runs have ended"
        error = InstanceFailedError(
            f"{ref}: {what}{like}; {since}. It is ACTIVE, and billed until it is ended",
            ref=ref,
            last_seen=container,
            timeline=self._history.timeline,
        )
        error.is_billing = True
        error.events, error.logs = shown.events, shown.logs
        return error

    def _now(self) -> float:
        return loop_time() / self._loops.pace
