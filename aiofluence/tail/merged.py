"""Merged tails: one iterator over many containers, each line with its container.

It polls the container that has waited longest, a few at a time, and only after the earlier lines were taken.
Each poll is a task of the session that lives for one request. Between polls there is no task.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Final

import attrs

from ..background import BackgroundTasks
from ..errors import FluenceError, NotFoundError
from ..models.instances import InstanceRef
from ..models.logs import LogGap, LogLine
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints
from .follower import Tail
from .logs import FollowLogs

_AT_ONCE: Final = 8
"""Maximum number of polls that are in flight or wait at the rate limiter."""


@attrs.frozen
class TaggedLine:
    """A line of a merged tail, and its container.

    Attributes:
        ref: the container.
        line: its line, or a gap in its log.
    """

    ref: InstanceRef
    line: LogLine | LogGap


class MergedTail(Tail[TaggedLine]):
    """The lines of many containers in the order of arrival. The lines of one container stay in order.

    Ends when every container has ended. An error of one container is raised once. Iterate
    again to continue with the others.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        refs: Iterable[InstanceRef],
        last: int,
        pace: float,
        evidence: Evidence,
        tasks: BackgroundTasks,
    ) -> None:
        super().__init__(endpoints)
        self._number = count()
        self._idle = [
            (float("-inf"), next(self._number), FollowLogs(endpoints, ref, last, pace, evidence))
            for ref in refs
        ]
        self._ready: deque[TaggedLine] = deque()
        self._polls: set[asyncio.Future[None]] = set()
        self._errors: deque[BaseException] = deque()
        self._tasks = tasks
        self._stir = asyncio.Event()

    def _take(self) -> TaggedLine | None:
        if self._ready:
            return self._ready.popleft()
        if self._errors:
            raise self._errors.popleft()
        return None

    def _over(self) -> bool:
        return not (self._idle or self._polls)

    async def _wait(self) -> None:
        """Start the polls that are due, and wait until a poll is done or the next is due."""
        loop = asyncio.get_running_loop()
        self._stir.clear()
        while self._idle and len(self._polls) < _AT_ONCE and self._idle[0][0] <= loop.time():
            self._start(heapq.heappop(self._idle)[2])
        full = len(self._polls) >= _AT_ONCE or not self._idle
        try:
            async with asyncio.timeout_at(None if full else self._idle[0][0]):
                await self._stir.wait()
        except TimeoutError:
            pass

    def _start(self, follow: FollowLogs) -> None:
        poll = self._tasks.spawn(follow.poll())
        self._polls.add(poll)
        poll.add_done_callback(lambda poll: self._done(follow, poll))

    def _done(self, follow: FollowLogs, poll: asyncio.Future[None]) -> None:
        self._polls.discard(poll)
        self._ready.extend(TaggedLine(follow.ref, line) for line in follow.ready)
        follow.ready.clear()
        error = poll.exception()
        if error is not None:
            self._errors.append(error)
        if not (follow.over or isinstance(error, NotFoundError)):
            heapq.heappush(self._idle, (follow.due, next(self._number), follow))
        self._stir.set()

    @property
    def last_errors(self) -> dict[str, FluenceError]:
        """The errors of the last polls by container name, of the containers whose last poll failed."""
        return {f.ref.name: f.last_error for _, _, f in self._idle if f.last_error is not None}
