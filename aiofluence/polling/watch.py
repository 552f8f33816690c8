"""Watching instances until something is true of them, for everybody who waits in a session.

The looking is done by one `Poller` per kind, whoever waits. What is awaited, and what a bad end means, is
`wait`'s business.
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
from .evidence import Evidence
from .history import WaitHistory, WaitRequest
from .poller import Poller
from .schedule import Poll


class Pollers:
    """The watchers of one session, one per kind."""

    def __init__(
        self,
        resources: Mapping[Kind, Endpoints],
        poll: Poll,
        home: BackgroundTasks,
        gate: RateLimiter,
        clock: ServerClock,
        evidence: Evidence,
    ) -> None:
        self.resources: Final = resources
        self.poll: Final = poll
        self._owner = home.owner
        self._watchers = {kind: Poller(kind, resources, poll, home, gate, clock, evidence) for kind in Kind}

    def status(
        self,
        seen: WaitHistory,
        status_matches: Callable[[Status], bool],
        deadline: float | None,
        what: str,
        *,
        poll_now: bool,
    ) -> Coroutine[Any, Any, Status]:
        """Wait until the status of `seen.ref` is `status_matches` it, and give it.

        Args:
            seen: which instance; is told what is seen of it.
            status_matches: whether that status was waited for.
            deadline: loop time to give up at, after one last look.
            what: what is awaited, for the error's text.
            poll_now: it should be so soon: look at once, and then less and less often.

        Raises:
            WaitTimeoutError: the deadline came first.
            InstanceEndedError: the service does not, or no longer, know the instance.
            AuthError: the key is not, or no longer, good.
            NotSentError: the session was closed.
        """
        return self._await(
            WaitRequest(seen, status_matches, None, _or_never(deadline), what, poll_now), fresh=False
        )

    def detail(
        self,
        seen: WaitHistory,
        detail_matches: Callable[[Instance], bool],
        deadline: float | None,
        what: str,
        *,
        status_matches: Callable[[Status], bool] | None = None,
        fresh: bool = False,
    ) -> Coroutine[Any, Any, Instance]:
        """Wait until the detail of `seen.ref` has `detail_matches` it, and give it.

        Args:
            seen: which instance; is told what is seen of it.
            detail_matches: whether the detail shows what was waited for; may raise, which ends the wait.
            deadline: loop time to give up at, after one last look.
            what: what is awaited, for the error's text.
            status_matches: the detail is not worth a look before the status is; None: it always is.
            fresh: the instance has only just been deployed, so that the first look can wait.

        Raises:
            WaitTimeoutError: the deadline came first.
            InstanceEndedError: the service does not, or no longer, know the instance.
            AuthError: the key is not, or no longer, good.
            NotSentError: the session was closed.
        """
        # No coroutine of its own: of 10,000 waits each frame counts.
        wait = WaitRequest(
            seen, status_matches or _always, detail_matches, _or_never(deadline), what, status_matches is None
        )
        return self._await(wait, fresh=fresh)

    async def _await(self, wait: WaitRequest, *, fresh: bool) -> Any:
        self._owner.check()
        watcher = self._watchers[wait.seen.ref.kind]
        watcher.join(wait, fresh=fresh)
        try:
            return await wait.outcome
        finally:
            watcher.leave(wait)

    def expected_wait(self, ref: InstanceRef) -> float | None:
        """Seconds that the provisioning of `ref` is still expected to take; None when it is not awaited."""
        return self._watchers[ref.kind].expected_wait(ref.id)

    def close(self) -> None:
        """End every wait: its NotSentError says that the session is closed."""
        for watcher in self._watchers.values():
            watcher.close()


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


def _always(status: Status) -> bool:
    return True
