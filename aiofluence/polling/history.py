"""One wait as plain data: what it asks for, and what it has seen so far.

Filled in by `watcher`, judged by `wait`. Nothing here looks at anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs

from ..errors import FluenceError, Sighting, WaitTimeoutError
from ..models.instances import Instance, InstanceRef, Summary
from ..models.values import Status


@attrs.define
class WaitHistory:
    """What one wait has seen so far; a wait in several stages keeps one through all of them."""

    ref: InstanceRef
    began: float = attrs.field(factory=lambda: asyncio.get_running_loop().time())
    last: Instance | Summary | None = None
    timeline: tuple[Sighting, ...] = ()
    last_error: FluenceError | None = None
    refusal: FluenceError | None = None
    """Why the last DELETE failed."""

    @property
    def status(self) -> Status | None:
        """The status seen last; None before the first look."""
        return self.timeline[-1].status if self.timeline else None

    def note(self, status: Status, now: float) -> None:
        """Remember a look that came through, and the status if it is a new one."""
        if self.status != status:
            self.timeline += (Sighting(now - self.began, status),)
        self.last_error = None


@attrs.define(eq=False)
class WaitRequest:
    """What one wait asks for.

    Attributes:
        seen: what it is about, and what was seen.
        status_matches: decides if a status ends the wait or, with `detail_matches`, permits a GET.
        detail_matches: whether a detail ends the wait; may raise to end it badly. None: the status is enough.
        deadline: loop time of the last look; infinite without one.
        what: what is awaited, for the error.
        poll_now: whether it should be there soon, so that the looks begin at once.
        outcome: the status, or with `detail_matches` the detail.
    """

    seen: WaitHistory
    status_matches: Callable[[Status], bool]
    detail_matches: Callable[[Instance], bool] | None
    deadline: float
    what: str
    poll_now: bool
    outcome: asyncio.Future[Any] = attrs.field(
        factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )

    def __lt__(self, other: WaitRequest) -> bool:
        return self.deadline < other.deadline

    def judge(self, status: Status, instance: Instance | None, now: float) -> bool:
        """Take note of a look; gives whether what decides is in a detail that was not looked at."""
        if self.outcome.done():
            return False
        self.seen.note(status, now)
        if instance is not None:
            self.seen.last = instance
        try:
            if not self.status_matches(status):
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
        """End the wait badly."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def timed_out(seen: WaitHistory, what: str) -> WaitTimeoutError:
    """The error of a wait whose deadline came."""
    status = seen.status or "never seen"
    why = f"; the last look failed: {seen.last_error}" if seen.last_error is not None else ""
    error = WaitTimeoutError(
        f"{seen.ref} did not become {what} in time: {status}{why}",
        ref=seen.ref,
        last_seen=seen.last,
        timeline=seen.timeline,
    )
    error.last_error = seen.last_error
    return error
