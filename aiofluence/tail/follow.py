"""Asking one container for its output again and again, until it has ended and everything is out.

When to ask, what an error means, and when it is over; what is new in an answer is found by `stitch` and
`events`. There is no task here: whoever iterates does the asking, and nothing is open in between.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Generic, TypeVar

from ..errors import AuthError, ConfigError, FluenceError, NotFoundError, NotSentError
from ..models.instances import InstanceRef
from ..models.values import Kind
from ..protocol import Lane
from ..resources.containers import Containers
from .iterator import Tail

T = TypeVar("T")

LONGEST_INTERVAL: Final = 15.0
"""Seconds between two polls of something quiet."""
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two polls while all of them fail."""
_BETWEEN_LOOKS: Final = 45.0
"""Seconds between two looks at the status while nothing new comes."""
_MISSING_GRACE: Final = 60.0
"""Seconds for which what was just deployed may be unknown."""
_LAST_TRIES: Final = 5
"""Failed polls behind the end, after which the last lines are given up, and marked."""


class Follow(ABC, Generic[T]):
    """One container's output, poll by poll. All times are the event loop's.

    Attributes:
        ref: the container.
        due: when to poll next.
        over: it has ended, and everything that will ever come is in `ready`.
        ready: what has come and was not yet taken.
        last_error: why the last poll failed; None when it came through.
    """

    def __init__(self, containers: Containers, ref: InstanceRef, pace: float) -> None:
        if ref.kind is not Kind.CONTAINER:
            raise ConfigError(f"only containers have logs and events, and {ref.name} is a {ref.kind}")
        self.ref = ref
        self.due: float = float("-inf")
        self.over: bool = False
        self.ready: deque[T] = deque()
        self.last_error: FluenceError | None = None
        self._containers = containers
        self._pace = pace
        """Real seconds to one of the seconds above: less than 1 in time-lapse."""
        self._began: float | None = None
        self._known = False
        self._ended = False
        self._look_at = float("-inf")
        self._failures = 0

    @abstractmethod
    async def _fetch(self, now: float) -> bool:
        """Ask once and put what is new into `ready`; gives whether anything was new, or is still open."""

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
            AuthError: the key is not, or no longer, good.
            NotFoundError: the service has never known this container.
            NotSentError: it cannot be reached, for good: the session is closed, or its certificate is bad.
        """
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        try:
            something = await self._fetch(now / self._pace)
            self._came(something)
            if not (something or self._ended) and now >= self._look_at:
                await self._look(now)
        except (AuthError, NotSentError) as error:
            self._failed(error)
            if isinstance(error, AuthError) or error.permanent:
                raise
        except NotFoundError as error:
            self._failed(error)
            if self._known:
                self._end(all_seen=False)
            elif now - self._began >= _MISSING_GRACE * self._pace:
                raise
        except FluenceError as error:
            self._failed(error)
            if now >= self._look_at:
                await self._look_in_trouble(now)

    def _came(self, something: bool) -> None:
        self._known = True
        self.last_error = None
        self._failures = 0
        if self._ended and not something:
            self._end(all_seen=True)
        self._due_in(self._interval())

    async def _look(self, now: float) -> None:
        """Has it ended? Then one more poll, asked for after that was known, brings the last of it."""
        self._look_at = now + _BETWEEN_LOOKS * self._pace
        instance = await self._containers.look_at(self.ref.id, lane=Lane.TAIL)
        self._known = True
        if instance.status.final:
            self._ended = True
            self.due = float("-inf")

    async def _look_in_trouble(self, now: float) -> None:
        """The same after a poll that failed: what is over may answer with an error for ever."""
        try:
            await self._look(now)
        except NotFoundError:
            if self._known:
                self._end(all_seen=False)
        except AuthError:
            raise
        except FluenceError as error:
            self.last_error = error

    def _failed(self, error: FluenceError) -> None:
        self.last_error = error
        self._failures += 1
        if self._ended and self._failures >= _LAST_TRIES:
            self._end(all_seen=False)
        self._due_in(min(2.0 ** min(self._failures, 9), _LONGEST_PAUSE))

    def _due_in(self, seconds: float) -> None:
        self.due = asyncio.get_running_loop().time() + seconds * self._pace

    def _end(self, *, all_seen: bool) -> None:
        if not self.over:
            self.over = True
            self._finish(all_seen=all_seen)


class OneTail(Tail[T]):
    """What is ready of one container, and else its next poll."""

    def __init__(self, follow: Follow[T]) -> None:
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
