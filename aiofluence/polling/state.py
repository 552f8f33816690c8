"""One instance that somebody waits for: what is known of it, and who waits for what.

Told by `watcher` what a look showed; tells the waits. When to look is not its business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import attrs

from ..errors import DecodeError, FluenceError, InstanceEndedError
from ..http.messages import Json
from ..models.instances import Instance
from ..models.values import Status
from ..resources.endpoints import Endpoints
from .history import WaitRequest, timed_out


@attrs.define(eq=False)
class TrackedInstance:
    """One instance that somebody waits for.

    Attributes:
        id: of the instance.
        joined: loop time of the latest wait; a reply to an earlier request is ignored.
        ignore_before: loop time of the last reply. An earlier request's reply is ignored if its status lags.
        born: when its provisioning began (loop time), if that is known.
        fresh: `born` is known at first hand, so that something can be learnt from it.
        looked: when the last look that came through was asked for.
        status: what that look said.
        text: that, as a row of a list writes it, while another such row tells nobody anything.
        waits: who waits.
        is_pending: only the end of its provisioning is awaited, and the agenda says when to look.
        detailed: what is awaited shows in the detail alone.
        unlisted: lists do not show it, for whatever reason.
        due: when to look at it for its own sake.
        gaps: the gaps between such looks.
        asking: it stands in the queue for a GET.
        get_failed: the last GET failed, which proves nothing: a LIST is next.
        is_unknown: the last GET answered 404 in the service's format; with a whole LIST, that is proof.
    """

    id: str
    ignore_before: float
    joined: float = -math.inf
    born: float | None = None
    fresh: bool = False
    looked: float | None = None
    status: Status | None = None
    text: str | None = None
    waits: list[WaitRequest] = attrs.field(factory=list)
    is_pending: bool = False
    detailed: bool = False
    unlisted: bool = False
    due: float = math.inf
    gaps: Iterator[float] | None = None
    asking: bool = False
    get_failed: bool = False
    is_unknown: bool = False

    def add(self, wait: WaitRequest) -> None:
        """Somebody waits for it."""
        self.waits.append(wait)
        self.text = None
        self.detailed = self.detailed or (wait.poll_now and wait.detail_matches is not None)

    @property
    def provisioning(self) -> bool:
        """Whether nothing is awaited, and nothing known, but that its provisioning ends."""
        begun = self.status is None or self.status is Status.INITIALIZED
        return begun and not self.detailed and not self.unlisted and not any(w.poll_now for w in self.waits)

    def judge(self, status: Status, instance: Instance | None, now: float) -> bool:
        """Tell everybody what a look showed; gives whether anybody still waits."""
        self.status, self.text = status, None
        self.get_failed = self.is_unknown = False
        more = [wait.judge(status, instance, now) for wait in tuple(self.waits)]
        left = [wait for wait in self.waits if not wait.outcome.done()]
        self.detailed = any(more) or any(wait.poll_now and wait.detail_matches is not None for wait in left)
        return bool(left)

    def failed(self, error: FluenceError) -> None:
        """A look did not come through."""
        self.text = None
        for wait in self.waits:
            wait.seen.last_error = error

    def remember(self, endpoints: Endpoints, row: Json) -> None:
        """This row was the last look at it: it goes into the errors. All other rows stay raw."""
        try:
            summary = endpoints.summary_of(row)
        except DecodeError:
            return
        for wait in self.waits:
            wait.seen.last = summary

    @property
    def since(self) -> float:
        """Loop time since which the instance exists, as far as its waits know."""
        return min((wait.seen.began for wait in self.waits), default=math.inf)

    def is_stale(self, status: Status, asked: float) -> bool:
        """Whether a reply with `status`, requested at `asked`, may be older than what is known.

        Of two replies that crossed, the one with the later status is the newer: no status goes back.
        """
        if asked < self.joined:
            return True
        return asked < self.ignore_before and self.status is not None and _stage(status) < _stage(self.status)

    def end(self) -> None:
        """Fail all waits: the instance is proven over, without a reply that shows how it ended."""
        for wait in self.waits:
            seen = wait.seen
            message = f"{seen.ref}: the service does not know it"
            wait.fail(InstanceEndedError(message, ref=seen.ref, last_seen=seen.last, timeline=seen.timeline))

    def expire(self, asked: float) -> None:
        """End the waits whose last look was asked for at `asked`."""
        for wait in self.waits:
            if asked >= wait.deadline:
                wait.fail(timed_out(wait.seen, wait.what))


def _stage(status: Status) -> int:
    """Position of a status in an instance's life; an unknown one is between INITIALIZED and ACTIVE."""
    if status.final:
        return 3
    return {Status.INITIALIZED: 0, Status.ACTIVE: 2}.get(status, 1)


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
