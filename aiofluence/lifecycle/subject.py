"""One instance that somebody waits for: what is known of it, and who waits for what.

Told by `watcher` what a look showed; tells the waits. When to look is not its business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ..errors import DecodeError, FluenceError, InstanceEndedError
from ..models.instances import Instance
from ..models.values import Status
from ..protocol import Json
from ..resources.instances import Instances
from .seen import Wait, timed_out

MISSING_GRACE: Final = 60.0
"""Seconds for which the service may say that it does not know an id, though it was created."""


@attrs.define(eq=False)
class Subject:
    """One instance that somebody waits for.

    Attributes:
        id: of the instance.
        fence: what was asked for before this loop time may be stale, and is not heard.
        born: when its provisioning began (loop time), if that is known.
        fresh: `born` is known at first hand, so that something can be learnt from it.
        looked: when the last look that came through was asked for.
        status: what that look said.
        text: that, as a row of a list writes it, while another such row tells nobody anything.
        waits: who waits.
        crowd: only the end of its provisioning is awaited, and the agenda says when to look.
        detailed: what is awaited shows in the detail alone.
        unlisted: lists do not show it, for whatever reason.
        due: when to look at it for its own sake.
        gaps: the gaps between such looks.
        asking: it stands in the queue for a GET.
        grace: seconds for which it may be unknown to lists and details, and be there all the same.
        unknown: since when details have not known it, one after the other; infinite while they do.
    """

    id: str
    fence: float
    grace: float = MISSING_GRACE
    born: float | None = None
    fresh: bool = False
    looked: float | None = None
    status: Status | None = None
    text: str | None = None
    waits: list[Wait] = attrs.field(factory=list)
    crowd: bool = False
    detailed: bool = False
    unlisted: bool = False
    due: float = math.inf
    gaps: Iterator[float] | None = None
    asking: bool = False
    unknown: float = math.inf

    def add(self, wait: Wait) -> None:
        """Somebody waits for it."""
        self.waits.append(wait)
        self.text = None
        self.detailed = self.detailed or (wait.brisk and wait.reached is not None)

    @property
    def provisioning(self) -> bool:
        """Whether nothing is awaited, and nothing known, but that its provisioning ends."""
        begun = self.status is None or self.status is Status.INITIALIZED
        return begun and not self.detailed and not self.unlisted and not any(w.brisk for w in self.waits)

    def judge(self, status: Status, instance: Instance | None, now: float) -> bool:
        """Tell everybody what a look showed; gives whether anybody still waits."""
        self.status, self.text, self.unknown = status, None, math.inf
        more = [wait.judge(status, instance, now) for wait in tuple(self.waits)]
        left = [wait for wait in self.waits if not wait.outcome.done()]
        self.detailed = any(more) or any(wait.brisk and wait.reached is not None for wait in left)
        return bool(left)

    def failed(self, error: FluenceError) -> None:
        """A look did not come through."""
        self.text = None
        for wait in self.waits:
            wait.seen.last_error = error

    def remember(self, resource: Instances[Any, Any, Any], row: Json) -> None:
        """This row was the last look at it: it goes into the errors. All other rows stay raw."""
        try:
            summary = resource.summary_of(row)
        except DecodeError:
            return
        for wait in self.waits:
            wait.seen.last = summary

    @property
    def overdue(self) -> bool:
        """Whether the service should know it by now."""
        return any(self._overdue(wait.seen.began) for wait in self.waits)

    def not_found(self) -> None:
        """404: what was just created may take a while to show, and lists and details never lose anything.

        So one 404 proves nothing, whether it was there before or not: something billed may be behind it.
        """
        self.unknown = min(self.unknown, _now())
        for wait in self.waits:
            seen = wait.seen
            if self._overdue(seen.began if seen.status is None else self.unknown):
                message = f"{seen.ref}: the service does not know it"
                error = InstanceEndedError(message, ref=seen.ref, last_seen=seen.last, timeline=seen.timeline)
                wait.fail(error)

    def _overdue(self, since: float) -> bool:
        return _now() - since >= self.grace

    def expire(self, asked: float) -> None:
        """End the waits whose last look was asked for at `asked`."""
        for wait in self.waits:
            if asked >= wait.deadline:
                wait.fail(timed_out(wait.seen, wait.what))


def birth(created_at: object, server: datetime | None, now: float) -> float | None:
    """When an instance was created, as a loop time; `server` is the service's time now."""
    if isinstance(created_at, str):
        try:
            created_at = datetime.fromisoformat(created_at)
        except ValueError:
            return None
    if server is None or not isinstance(created_at, datetime):
        return None
    if created_at.tzinfo is None:
        created_at = created_at.replace(tzinfo=UTC)
    return now - max((server - created_at).total_seconds(), 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
