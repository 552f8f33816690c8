"""The watch for crash loops in awaited containers. Containers of one program share its requests.

If a container has not started some time after ACTIVE, its events are requested now and then. Of many
containers of one program, only a few cost requests. `crash_loop` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from ..background import BackgroundTasks
from ..errors import FluenceError, InstanceFailedError, NotSentError
from ..models.instances import Container
from ..models.values import ContainerStatus, Kind, Status
from ..polling.history import WaitHistory
from ..resources.endpoints import Endpoints
from .crash_loop import WITNESSES, Cause, Signs, judge

EVIDENCE: Final = 20
"""Number of log lines in an InstanceFailedError."""

_Program: TypeAlias = tuple[str, str | None]
"""Image and startup command."""


@attrs.define(eq=False)
class _Shared:
    """Knowledge that the waits for containers of one program share.

    Attributes:
        waits: number of the waits.
        asked: ids of the containers whose events are requested.
        proven: watches of containers that loop, by their own events, with their ids as keys.
        is_doubted: the events of a container list a back-off.
    """

    waits: int = 0
    asked: set[str] = attrs.field(factory=set)
    proven: dict[str, LoopWatch] = attrs.field(factory=dict)
    is_doubted: bool = False


class Loops:
    """The watches for crash loops of one session."""

    def __init__(self, resources: Mapping[Kind, Endpoints], tasks: BackgroundTasks, pace: float) -> None:
        self.tasks: Final = tasks
        self.pace: Final = pace
        self._resources = resources
        self._shared: dict[_Program, _Shared] = {}

    @property
    def containers(self) -> Endpoints:
        """The endpoints for requests of events and logs."""
        return self._resources[Kind.CONTAINER]

    def join(self, program: _Program) -> _Shared:
        """Return the knowledge about `program`, shared with one more wait."""
        shared = self._shared.setdefault(program, _Shared())
        shared.waits += 1
        return shared

    def leave(self, program: _Program) -> None:
        """End the sharing of one wait. The last wait drops the knowledge."""
        shared = self._shared[program]
        shared.waits -= 1
        if not shared.waits:
            del self._shared[program]


class LoopWatch:
    """The watch of one wait over the runs of its container."""

    def __init__(self, loops: Loops, history: WaitHistory) -> None:
        self.signs: Final = Signs()
        self._loops = loops
        self._history = history
        self._program: _Program | None = None
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
        if self._program is not None and self._shared is not None:
            self._shared.asked.discard(self._history.ref.id)
            self._loops.leave(self._program)
            self._program = self._shared = None

    def _join(self, container: Container) -> _Shared:
        if self._shared is None:
            info = container.container_info
            self._program = info.image, info.startup_command
            self._shared = self._loops.join(self._program)
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
        return asyncio.get_running_loop().time() / self._loops.pace
