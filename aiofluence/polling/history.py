"""The data of one wait: its condition, and the statuses seen so far.

`poller` fills it in, `wait` judges it. Sends nothing.
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
    """Statuses and errors that one wait has seen. A wait in several stages keeps one history."""

    ref: InstanceRef
    began: float = attrs.field(factory=lambda: asyncio.get_running_loop().time())
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


@attrs.define(eq=False)
class WaitRequest:
    """The condition of one wait, and its outcome.

    Attributes:
        history: history of the wait, with the reference of its instance.
        status_matches: decides if a status ends the wait or, with `detail_matches`, permits a GET.
        detail_matches: decides if a detail ends the wait, and may raise. None if the status is enough.
        deadline: loop time of the last poll. Infinite without a deadline.
        what: name of the condition, for the error.
        poll_now: the condition may hold already, so that polls begin at once.
        outcome: the status, or with `detail_matches` the detail.
    """

    history: WaitHistory
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
        """Judge the reply of a poll. Return True if the decision needs a detail not yet requested."""
        if self.outcome.done():
            return False
        self.history.note(status, now)
        if instance is not None:
            self.history.last = instance
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
