"""Following many containers at once: one iterator, each line with the container it came from.

Polls whoever has waited longest, a few at a time, and only when what came before was taken. A poll is a
task of the session's that lives for one request; there is none in between.
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
from .iterator import Tail
from .logs import FollowLogs

_AT_ONCE: Final = 8
"""Polls under way or before the gate."""


@attrs.frozen
class TaggedLine:
    """What came, and from which container.

    Attributes:
        ref: the container.
        line: its line, or the mark of a gap in its log.
    """

    ref: InstanceRef
    line: LogLine | LogGap


class MergedTail(Tail[TaggedLine]):
    """The lines of many containers in the order in which they arrive; one container's stay in order.

    Ends when every container has ended. An error about one of them is raised once; iterating again goes on
    with the others.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        refs: Iterable[InstanceRef],
        last: int,
        pace: float,
        evidence: Evidence,
        home: BackgroundTasks,
    ) -> None:
        super().__init__()
        self._number = count()
        self._idle = [
            (float("-inf"), next(self._number), FollowLogs(endpoints, ref, last, pace, evidence))
            for ref in refs
        ]
        self._ready: deque[TaggedLine] = deque()
        self._polls: set[asyncio.Future[None]] = set()
        self._errors: deque[BaseException] = deque()
        self._home = home
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
        """Start what is due, and wait until a poll is done or the next is due."""
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
        poll = self._home.spawn(follow.poll())
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
        """By container name: why its last poll failed, of those for which it did."""
        return {f.ref.name: f.last_error for _, _, f in self._idle if f.last_error is not None}
