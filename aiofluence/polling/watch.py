"""Polling instances until a condition holds, for all waits of a session.

One `Poller` per kind sends the requests. `wait` defines the conditions and the errors of a bad end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from ..background import BackgroundTasks
from ..http.rate_limit import RateLimiter
from ..http.transport import ServerClock
from ..models.instances import Instance, InstanceRef
from ..models.values import Kind, Status
from ..resources.endpoints import Endpoints
from .estimate import LifeTable
from .evidence import Evidence
from .history import WaitHistory, WaitRequest
from .poller import Poller
from .schedule import Poll


class Pollers:
    """The pollers of one session, one per kind."""

    def __init__(
        self,
        resources: Mapping[Kind, Endpoints],
        poll: Poll,
        tasks: BackgroundTasks,
        rate_limiter: RateLimiter,
        clock: ServerClock,
        evidence: Evidence,
    ) -> None:
        self.resources: Final = resources
        self.poll: Final = poll
        self._owner = tasks.owner
        self._pollers = {
            kind: Poller(kind, resources, poll, tasks, rate_limiter, clock, evidence) for kind in Kind
        }

    def status(
        self,
        history: WaitHistory,
        status_matches: Callable[[Status], bool],
        deadline: float | None,
        what: str,
        *,
        poll_now: bool,
    ) -> Coroutine[Any, Any, Status]:
        """Wait until `status_matches` accepts the status of `history.ref`, and return that status.

        Args:
            history: history of the wait, with the reference of its instance.
            status_matches: decides if a status ends the wait.
            deadline: loop time of the last poll and of the timeout.
            what: name of the condition, for the error's text.
            poll_now: the condition should hold soon: poll at once, then with growing gaps.

        Raises:
            WaitTimeoutError: the deadline came first.
            InstanceEndedError: the service does not know the instance, or no longer.
            AuthError: the key is not valid, or no longer.
            NotSentError: the session was closed.
        """
        return self._await(
            WaitRequest(history, status_matches, None, _or_never(deadline), what, poll_now), fresh=False
        )

    def detail(
        self,
        history: WaitHistory,
        detail_matches: Callable[[Instance], bool],
        deadline: float | None,
        what: str,
        *,
        status_matches: Callable[[Status], bool] | None = None,
        fresh: bool = False,
    ) -> Coroutine[Any, Any, Instance]:
        """Wait until `detail_matches` accepts the detail of `history.ref`, and return that detail.

        Args:
            history: history of the wait, with the reference of its instance.
            detail_matches: decides if a detail ends the wait. An exception from it ends the wait, too.
            deadline: loop time of the last poll and of the timeout.
            what: name of the condition, for the error's text.
            status_matches: decides if a status permits a GET of the detail. None: every status does.
            fresh: the instance was deployed just now, so that the first poll can wait.

        Raises:
            WaitTimeoutError: the deadline came first.
            InstanceEndedError: the service does not know the instance, or no longer.
            AuthError: the key is not valid, or no longer.
            NotSentError: the session was closed.
        """
        # No coroutine here: with 10,000 waits each frame takes memory.
        wait = WaitRequest(
            history,
            status_matches or _always,
            detail_matches,
            _or_never(deadline),
            what,
            status_matches is None,
        )
        return self._await(wait, fresh=fresh)

    async def _await(self, wait: WaitRequest, *, fresh: bool) -> Any:
        self._owner.check()
        poller = self._pollers[wait.history.ref.kind]
        poller.join(wait, fresh=fresh)
        try:
            return await wait.outcome
        finally:
            poller.leave(wait)

    def expected_wait(self, ref: InstanceRef) -> float | None:
        """Seconds that the provisioning of `ref` is still expected to take. None if it is not awaited."""
        return self._pollers[ref.kind].expected_wait(ref.id)

    def times(self, kind: Kind) -> LifeTable:
        """Return the distribution of provisioning times seen so far of a kind."""
        return self._pollers[kind].times()

    def close(self) -> None:
        """End every wait: its NotSentError says that the session is closed."""
        for poller in self._pollers.values():
            poller.close()


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


def _always(status: Status) -> bool:
    return True
