"""The state of awaited instances: what polls have shown of each, and the waits for it.

`poller` passes each reply to the state, and the state passes the reply to the waits. Plans no polls.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import attrs

from ..background import loop_time
from ..errors import DecodeError, FluenceError, InstanceEndedError, Sighting, WaitTimeoutError
from ..http.messages import Json
from ..http.readers import MisfitError, moment
from ..models.instances import Instance, InstanceRef, Summary
from ..models.values import Status
from ..resources.endpoints import Endpoints


@attrs.define
class WaitHistory:
    """Statuses and errors that one wait has seen. A wait in several stages keeps one history."""

    ref: InstanceRef
    began: float = attrs.field(factory=loop_time)
    last: Instance | Summary | None = None
    timeline: tuple[Sighting, ...] = ()
    last_error: FluenceError | None = None
    refusal: FluenceError | None = None
    """Error of the last DELETE. None without one."""

    @property
    def status(self) -> Status | None:
        """The status seen last. None before the first poll."""
        return self.timeline[-1].status if self.timeline else None

    def note(self, status: Status, now: float) -> None:
        """Note a successful poll, and its status if it is new."""
        if self.status != status:
            self.timeline += (Sighting(now - self.began, status),)
        self.last_error = None


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


@attrs.define(eq=False)
class WaitRequest:
    """The condition of one wait, and its outcome.

    Attributes:
        history: history of the wait, with the reference of its instance.
        status_matches: decides if a status ends the wait or, with `detail_matches`, permits a GET. None
            accepts every status.
        detail_matches: decides if a detail ends the wait, and may raise. None if the status is enough.
        deadline: loop time of the last poll and of the timeout. Infinite without a deadline.
        what: name of the condition, for the error.
        poll_now: the condition should hold soon: polls begin at once, with growing gaps.
        outcome: the status, or with `detail_matches` the detail.
    """

    history: WaitHistory
    status_matches: Callable[[Status], bool] | None
    detail_matches: Callable[[Instance], bool] | None
    deadline: float = attrs.field(converter=_or_never)
    what: str
    poll_now: bool
    outcome: asyncio.Future[Any] = attrs.field(
        factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )

    def __lt__(self, other: WaitRequest) -> bool:
        return self.deadline < other.deadline

    def judge(self, status: Status, instance: Instance | None, now: float) -> bool:
        """Judge the reply of a poll. Return True if the decision needs a detail not yet requested."""
        if self.outcome.done():
            return False
        self.history.note(status, now)
        if instance is not None:
            self.history.last = instance
        try:
            if self.status_matches is not None and not self.status_matches(status):
                return False
            if self.detail_matches is None:
                self.outcome.set_result(status)
            elif instance is None:
                return True
            elif self.detail_matches(instance):
                self.outcome.set_result(instance)
            else:
                return True
        except Exception as error:
            self.outcome.set_exception(error)
        return False

    def fail(self, error: BaseException) -> None:
        """End the wait with `error`."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def timed_out(history: WaitHistory, what: str) -> WaitTimeoutError:
    """Make the error of a wait that reached its deadline."""
    status = history.status or "never seen"
    why = f"; the last poll failed: {history.last_error}" if history.last_error is not None else ""
    error = WaitTimeoutError(
        f"{history.ref} did not become {what} in time: {status}{why}",
        ref=history.ref,
        last_seen=history.last,
        timeline=history.timeline,
    )
    error.last_error = history.last_error
    return error


@attrs.define(eq=False)
class TrackedInstance:
    """The state of one instance with at least one wait.

    Attributes:
        id: id of the instance.
        joined: loop time of the latest wait. A reply to an earlier request is ignored.
        ignore_before: loop time of the last reply. An earlier request's reply is ignored if its status lags.
        began: loop time at which provisioning began. None if unknown.
        fresh: `began` is exact, so that the estimate can learn from the instance.
        polled: loop time at which the last successful poll was requested. None before the first.
        status: status in that poll. None before the first.
        text: that status as a row of a list writes it. None if the next row must be judged in any case.
        waits: the waits for the instance.
        is_pending: the waits need only the end of provisioning, and the agenda plans the polls.
        detailed: the waits need the detail.
        unlisted: lists lack the instance, for any reason.
        due: loop time of the next poll of this instance alone. Infinite if none is planned.
        gaps: gaps between such polls. None before the first.
        queued: a GET is queued or in flight.
        get_failed: the last GET failed, which proves nothing. A LIST is next.
        is_unknown: the last GET answered 404 in the service's format. With a complete LIST, that is proof.
    """

    id: str
    ignore_before: float
    joined: float = -math.inf
    began: float | None = None
    fresh: bool = False
    polled: float | None = None
    status: Status | None = None
    text: str | None = None
    waits: list[WaitRequest] = attrs.field(factory=list)
    is_pending: bool = False
    detailed: bool = False
    unlisted: bool = False
    due: float = math.inf
    gaps: Iterator[float] | None = None
    queued: bool = False
    get_failed: bool = False
    is_unknown: bool = False

    def __lt__(self, other: TrackedInstance) -> bool:
        """Order by id: sets of instances differ in their order from run to run."""
        return self.id < other.id

    def add(self, wait: WaitRequest) -> None:
        """Add a wait for the instance."""
        self.waits.append(wait)
        self.text = None
        self.detailed = self.detailed or (wait.poll_now and wait.detail_matches is not None)

    @property
    def provisioning(self) -> bool:
        """Return True if the waits need only the end of provisioning, which is not known to have come."""
        begun = self.status is None or self.status is Status.INITIALIZED
        return begun and not self.detailed and not self.unlisted and not any(w.poll_now for w in self.waits)

    def judge(self, status: Status, instance: Instance | None, now: float) -> bool:
        """Pass the reply of a poll to all waits. Return True if a wait remains."""
        self.status, self.text = status, None
        self.get_failed = self.is_unknown = False
        more = [wait.judge(status, instance, now) for wait in tuple(self.waits)]
        left = [wait for wait in self.waits if not wait.outcome.done()]
        self.detailed = any(more) or any(wait.poll_now and wait.detail_matches is not None for wait in left)
        return bool(left)

    def failed(self, error: FluenceError) -> None:
        """Note a failed poll."""
        self.text = None
        for wait in self.waits:
            wait.history.last_error = error

    def remember(self, endpoints: Endpoints, row: Json) -> None:
        """Keep `row`, from the last poll before a deadline, for the errors. All other rows stay raw."""
        try:
            summary = endpoints.summary_of(row)
        except DecodeError:
            return
        for wait in self.waits:
            wait.history.last = summary

    @property
    def since(self) -> float:
        """Loop time since which the instance exists, as far as its waits know."""
        return min((wait.history.began for wait in self.waits), default=math.inf)

    def is_stale(self, status: Status, asked: float) -> bool:
        """Return True if a reply with `status`, requested at `asked`, may be older than the known status.

        If two replies crossed, the later status is the newer: no status goes back.
        """
        if asked < self.joined:
            return True
        return asked < self.ignore_before and self.status is not None and _stage(status) < _stage(self.status)

    def end(self) -> None:
        """Fail all waits: the instance is proven over, without a reply that shows how it ended."""
        for wait in self.waits:
            history = wait.history
            message = f"{history.ref}: the service does not know it"
            wait.fail(
                InstanceEndedError(
                    message, ref=history.ref, last_seen=history.last, timeline=history.timeline
                )
            )

    def expire(self, asked: float) -> None:
        """Fail each wait whose deadline came before the poll requested at `asked`."""
        for wait in self.waits:
            if asked >= wait.deadline:
                wait.fail(timed_out(wait.history, wait.what))


def _stage(status: Status) -> int:
    """Position of a status in an instance's life. An unknown status is between INITIALIZED and ACTIVE."""
    if status.final:
        return 3
    return {Status.INITIALIZED: 0, Status.ACTIVE: 2}.get(status, 1)


def creation_time(created_at: object, server: datetime | None, now: float) -> float | None:
    """Loop time at which an instance was created. `server` is the service's time now."""
    try:
        created = created_at if isinstance(created_at, datetime) else moment(created_at, None)
    except MisfitError:
        return None
    return None if server is None else now - max((server - created).total_seconds(), 0.0)
