"""Asking one container for its output again and again, until it has ended and everything is out.

When to ask, what an error means, and when it is over; what is new in an answer is found by `stitch` and
`events`. There is no task here: whoever iterates does the asking, and nothing is open in between.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Generic, TypeVar

from ..errors import AuthError, ConfigError, FluenceError, NotFoundError, NotSentError, RefusedError
from ..http.messages import Answer, Priority
from ..models.instances import InstanceRef
from ..models.values import Kind, Status
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints
from .iterator import Tail

log: Final = logging.getLogger("aiofluence")

T = TypeVar("T")

LONGEST_INTERVAL: Final = 15.0
"""Seconds between two polls of something quiet."""
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two polls while all of them fail."""
_BETWEEN_LOOKS: Final = 45.0
"""Seconds between two looks at the status while nothing new comes."""
_DENIALS: Final = 3
"""Polls in a row that must be refused before the key counts as refused: one 401 or 403 may be a gateway's."""
_SILENT: Final = 60.0
"""Seconds of failing polls before the first warning; the next ones come after four times as long each."""
_LAST_TRIES: Final = 5
"""Failed polls behind the end, after which the last lines are given up, and marked."""


class Follower(ABC, Generic[T]):
    """One container's output, poll by poll. All times are the event loop's.

    Attributes:
        ref: the container.
        due: when to poll next.
        over: it has ended, and everything that will ever come is in `ready`.
        ready: what has come and was not yet taken.
        last_error: why the last poll failed; None when it came through.
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
        """Real seconds to one of the seconds above: less than 1 in time-lapse."""
        self._began: float | None = None
        self._known = False
        self._ended = False
        self._look_at = float("-inf")
        self._failures = 0
        self._denials = 0
        self._failing_since = 0.0
        self._warn_after = _SILENT

    @abstractmethod
    async def _fetch(self, now: float) -> bool | None:
        """Poll once and put new items into `ready`.

        Returns:
            Whether anything was new, or is still open; None when the request must be another one, at once.
        """

    def _looked(self, answer: Answer) -> None:
        """Take what else a detail shows."""

    @abstractmethod
    def _interval(self) -> float:
        """Seconds from an answer to the next poll."""

    @abstractmethod
    def _finish(self, *, all_seen: bool) -> None:
        """Put into `ready` what was held back, and a mark unless the very last output was seen."""

    async def poll(self) -> None:
        """Ask once, and perhaps for the status. What passes by itself only makes the next poll later.

        Cancelled, it has either taken a whole answer or changed nothing.

        Raises:
            AuthError: the key is refused, in several polls in a row.
            NotFoundError: the service has never known this container: a LIST lacks it, too.
            NotSentError: it cannot be reached, for good: the session is closed, or its certificate is bad.
        """
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        try:
            something = await self._fetch(now / self._pace)
            if something is None:
                return
            self._came(something)
            if not (something or self._ended) and now >= self._look_at:
                await self._look(now)
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
            # The logs of an instance that is over may be gone, and answer 400 or 404 (behaviour: containers).
            may_be_over = self._failures == 1 and isinstance(error, NotFoundError | RefusedError)
            if now >= self._look_at or may_be_over:
                await self._look_in_trouble(now)
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

    async def _look(self, now: float) -> None:
        """Poll the status. After a final one, one more poll brings the last output."""
        self._look_at = now + _BETWEEN_LOOKS * self._pace
        answer = await self._endpoints.get(self.ref.id, priority=Priority.TAIL)
        self._saw(self._endpoints.status_of(answer))
        self._looked(answer)

    async def _look_in_trouble(self, now: float) -> None:
        """The same after a poll that failed: the output of what is over may be an error for ever."""
        try:
            await self._look(now)
        except FluenceError as error:
            self.last_error = error

    async def _is_unknown(self, began: float) -> bool:
        """Whether the service has never known the container. A 404 alone does not prove that, a LIST does."""
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
            self._saw(Status(status))
            return False
        return rows.is_complete and self._evidence.is_complete(self.ref.kind, statuses, asked)

    def _saw(self, status: Status | None) -> None:
        if status is not None:
            now = asyncio.get_running_loop().time()
            self._known = True
            if self._evidence.is_over(status, now, now):
                self._ended = True
                self.due = float("-inf")

    def _failed(self, error: FluenceError) -> None:
        self.last_error = error
        self._failures += 1
        self._complain(error)
        if self._ended and self._failures >= _LAST_TRIES:
            self._end(all_seen=False)
        self._due_in(min(2.0 ** min(self._failures, 9), _LONGEST_PAUSE))

    def _complain(self, error: FluenceError) -> None:
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


class OneTail(Tail[T]):
    """What is ready of one container, and else its next poll."""

    def __init__(self, follow: Follower[T]) -> None:
        super().__init__()
        self._follow = follow

    @property
    def ref(self) -> InstanceRef:
        """The container it follows."""
        return self._follow.ref

    @property
    def last_error(self) -> FluenceError | None:
        """Why the last poll failed; None when it came through. No such error ends the tail."""
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
