"""Polling of one container until it has ended and its whole output is delivered.

`Follower` decides when to poll, what an error means, and when the tail is over. `stitch` and `events` find
the new items of a reply. There is no background task: the caller's `anext` makes the requests, and no
connection is open between two calls.

`Tail`, the base class of all tails, is a class and no async generator. A generator that is cancelled within a
step is finished, and a `Tail` continues.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Generic, Self, TypeVar

import anyio

from ..errors import AuthError, ConfigError, FluenceError, NotFoundError, NotSentError, RefusedError
from ..http.messages import Answer, Priority
from ..models.instances import InstanceRef
from ..models.values import Kind, Status
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints

log: Final = logging.getLogger("aiofluence")

T = TypeVar("T")

LONGEST_INTERVAL: Final = 15.0
"""Seconds between two polls of a quiet container."""
_LONGEST_PAUSE: Final = 30.0
"""Longest pause in seconds between two polls while all polls fail."""
_STATUS_INTERVAL: Final = 45.0
"""Seconds between two polls of the status while no new output arrives."""
_DENIALS: Final = 3
"""Refused polls in a row before the key counts as refused: a gateway may answer a single 401 or 403."""
_SILENT: Final = 60.0
"""Seconds of failing polls before the first warning. Each further interval is four times as long."""
_LAST_TRIES: Final = 5
"""Failed polls after the end of the container before the last lines are given up and marked with a gap."""


class Follower(ABC, Generic[T]):
    """The output of one container, poll by poll. All times are of the event loop.

    Attributes:
        ref: the container.
        due: time of the next poll.
        over: the container has ended, and all remaining output is in `ready`.
        ready: items that arrived and were not yet taken.
        last_error: the error of the last poll; None if it succeeded.
    """

    def __init__(self, endpoints: Endpoints, ref: InstanceRef, pace: float, evidence: Evidence) -> None:
        if ref.kind is not Kind.CONTAINER:
            raise ConfigError(f"only containers have logs and events, and {ref.name} is a {ref.kind}")
        self.ref = ref
        self.due: float = float("-inf")
        self.over: bool = False
        self.ready: deque[T] = deque()
        self.last_error: FluenceError | None = None
        self._endpoints = endpoints
        self._evidence = evidence
        self._pace = pace
        """Real seconds per second of the constants above: less than 1 if the simulator runs faster."""
        self._began: float | None = None
        self._known = False
        self._ended = False
        self._status_due = float("-inf")
        self._failures = 0
        self._denials = 0
        self._failing_since = 0.0
        self._warn_after = _SILENT

    @abstractmethod
    async def _fetch(self, now: float) -> bool | None:
        """Poll once and put new items into `ready`.

        Returns:
            True if items were new or a question is open; None if another request must follow at once.
        """

    def _take_detail(self, answer: Answer) -> None:
        """Take further information from a detail."""

    @abstractmethod
    def _interval(self) -> float:
        """Return the seconds from a reply to the next poll."""

    @abstractmethod
    def _finish(self, *, all_seen: bool) -> None:
        """Move held items to `ready`, and add a gap unless the very last output was seen."""

    async def poll(self) -> None:
        """Poll the output once and, if due, the status. A transient error only delays the next poll.

        After a cancellation, the follower has either taken a whole reply or is unchanged.

        Raises:
            AuthError: the service refused the key in several polls in a row.
            NotFoundError: the service has never known this container: a LIST lacks it, too.
            NotSentError: the service is unreachable for good: the session is closed, or a certificate is bad.
        """
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        try:
            something = await self._fetch(now / self._pace)
            if something is None:
                return
            self._came(something)
            if not (something or self._ended) and now >= self._status_due:
                await self._poll_status(now)
        except NotSentError as error:
            self._failed(error)
            if error.permanent:
                raise
        except AuthError as error:
            self._failed(error)
            self._denials += 1
            if self._denials >= _DENIALS:
                raise
        except FluenceError as error:
            self._failed(error)
            # The logs of an ended instance may be gone, and answer 400 or 404 (behaviour: containers).
            may_be_over = self._failures == 1 and isinstance(error, NotFoundError | RefusedError)
            if now >= self._status_due or may_be_over:
                await self._poll_status_after_error(now)
            if isinstance(error, NotFoundError) and await self._is_unknown(self._began):
                raise

    def _came(self, something: bool) -> None:
        self._known = True
        self.last_error = None
        if self._warn_after > _SILENT:
            log.info("tail of %s: polls succeed again, after %.0f s", self.ref.name, self._failing_for())
        self._failures = self._denials = 0
        self._warn_after = _SILENT
        if self._ended and not something:
            self._end(all_seen=True)
        self._due_in(self._interval())

    async def _poll_status(self, now: float) -> None:
        """Poll the status. After a final status, one more poll of the output brings its last part."""
        self._status_due = now + _STATUS_INTERVAL * self._pace
        answer = await self._endpoints.get(self.ref.id, priority=Priority.TAIL)
        self._note_status(self._endpoints.status_of(answer))
        self._take_detail(answer)

    async def _poll_status_after_error(self, now: float) -> None:
        """Poll the status after a failed poll: the output of an ended container may be an error for ever."""
        try:
            await self._poll_status(now)
        except FluenceError as error:
            self.last_error = error

    async def _is_unknown(self, began: float) -> bool:
        """Return True if the service has never known the container. A LIST proves that, a 404 does not."""
        asked = asyncio.get_running_loop().time()
        if self._known or self._ended or not self._evidence.is_over(None, asked, began):
            return False
        try:
            rows = await self._endpoints.rows(priority=Priority.TAIL)
            statuses = {id: status for id, status, _ in rows}
        except FluenceError as error:
            self.last_error = error
            return False
        status = statuses.get(self.ref.id)
        if status is not None:
            self._note_status(Status(status))
            return False
        return rows.is_complete and self._evidence.is_complete(self.ref.kind, statuses, asked)

    def _note_status(self, status: Status | None) -> None:
        if status is not None:
            now = asyncio.get_running_loop().time()
            self._known = True
            if self._evidence.is_over(status, now, now):
                self._ended = True
                self.due = float("-inf")

    def _failed(self, error: FluenceError) -> None:
        self.last_error = error
        self._failures += 1
        self._log_failure(error)
        if self._ended and self._failures >= _LAST_TRIES:
            self._end(all_seen=False)
        self._due_in(min(2.0 ** min(self._failures, 9), _LONGEST_PAUSE))

    def _log_failure(self, error: FluenceError) -> None:
        """Log that polls fail: after a minute, and then at growing intervals."""
        if self._failures == 1:
            self._failing_since = asyncio.get_running_loop().time()
        seconds = self._failing_for()
        if seconds >= self._warn_after:
            self._warn_after *= 4
            log.warning(
                "tail of %s: all polls have failed for %.0f s and are repeated: %s",
                self.ref.name,
                seconds,
                error,
            )

    def _failing_for(self) -> float:
        return (asyncio.get_running_loop().time() - self._failing_since) / self._pace

    def _due_in(self, seconds: float) -> None:
        self.due = asyncio.get_running_loop().time() + seconds * self._pace

    def _end(self, *, all_seen: bool) -> None:
        if not self.over:
            self.over = True
            self._finish(all_seen=all_seen)


class Tail(ABC, Generic[T]):
    """An async iterator that ends when its containers have ended. It may be left and continued at any time.

    Each `anext` may run under `asyncio.timeout` or be cancelled, and no item is lost. Between two calls,
    nothing runs and no connection is held, so a tail needs no clean-up.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._owner = endpoints.transport.owner
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    @abstractmethod
    def _take(self) -> T | None:
        """Return the next ready item; None if there is none."""

    @abstractmethod
    def _over(self) -> bool:
        """Return True if no further item will ever arrive."""

    @abstractmethod
    async def _wait(self) -> None:
        """Make one step towards the next item."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Wait for the next item.

        Raises:
            ConfigError: this is not the session's event loop.
            AuthError: the key is not, or no longer, valid.
            NotFoundError: the service has never known this container.
            NotSentError: the session is closed, or the service is unreachable for good.
        """
        self._owner.check()
        if self._scope is not None:
            raise RuntimeError("this tail is being read by another task; make one for each")
        item = None if self._closed else self._take()
        if item is None and not self._closed:
            # The scope spans one step only: `aclose` from another task ends this wait and nothing else.
            try:
                with anyio.CancelScope() as self._scope:
                    while (item := self._take()) is None and not self._over():
                        await self._wait()
            finally:
                self._scope = None
        if item is None or self._closed:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End the tail, from any task. A task that waits for the next item sees the iteration end.

        Raises:
            Nothing.
        """
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()


class OneTail(Tail[T]):
    """The tail of one container: returns ready items, and polls when there are none."""

    def __init__(self, endpoints: Endpoints, follow: Follower[T]) -> None:
        super().__init__(endpoints)
        self._follow = follow

    @property
    def ref(self) -> InstanceRef:
        """The container of this tail."""
        return self._follow.ref

    @property
    def last_error(self) -> FluenceError | None:
        """The error of the last poll; None if it succeeded. No such error ends the tail."""
        return self._follow.last_error

    def _take(self) -> T | None:
        return self._follow.ready.popleft() if self._follow.ready else None

    def _over(self) -> bool:
        return self._follow.over

    async def _wait(self) -> None:
        pause = self._follow.due - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)
        await self._follow.poll()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref.name}>"
