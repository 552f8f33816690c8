"""The gate before the wire: how fast, how many at once, and who goes first. One clock: the event loop's.

Rate by GCRA (one number instead of a bucket and a refill task), lanes served FIFO, a cap on requests in
flight, and one pause for the whole session when the service says it is too much. It sends nothing itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import attrs

from ..errors import ConfigError, NotSentError
from .messages import Priority

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]
"""Runs something as a task of the session's own."""


@attrs.frozen
class RateLimit:
    """The session's own limit: in any window of W seconds at most `burst` + `per_second` x W requests go out.

    The service documents no limit; 10 a second is an assumption. A 429 or 503 lowers the rate, success
    raises it again, up to this.
    """

    per_second: float = 10.0
    burst: int = 20

    def __attrs_post_init__(self) -> None:
        if not (0 < self.per_second < float("inf") and self.burst >= 1):
            raise ConfigError("RateLimit needs per_second > 0 and burst >= 1")

    def gate(self, max_in_flight: int) -> RateLimiter:
        """The gate of one session that keeps to this rate."""
        return RateLimiter(self, max_in_flight)


_SHARE_OF_THE_OLDEST: Final = 4
"""Every n-th grant goes to whoever has waited longest, whatever the lane: urgent calls pass a backlog
at once, and no backlog of urgent calls can starve the rest."""
EARLY: Final = 1e-9
"""The loop may fire a timer early by its clock's resolution."""
_PATIENCE: Final = 60.0
_LONGEST_PAUSE: Final = 2.0
CUT: Final = 0.5
FLOOR: Final = 0.02
RECOVERY: Final = 0.01
"""After a refusal the rate is halved (never below 2 %), and each success gives back 1 % of the whole."""


class RateLimiter:
    """Lets callers through one by one; each `acquire` that returns must be followed by one `release`.

    A gate that gets its turns from elsewhere says so in `_opens_at`, `_take` and `_give_back`.
    """

    def __init__(self, rate: RateLimit, max_in_flight: int) -> None:
        self._limit = rate
        self._rate = rate.per_second
        self._free = max_in_flight
        self._queues: tuple[deque[_Waiter], ...] = tuple(deque() for _ in Priority)
        self._waiting = 0
        self._arrival = 0.0
        """GCRA's theoretical arrival time: one number that is both bucket and refill."""
        self._not_before = 0.0
        self._last_cut = float("-inf")
        self._outage: _Outage | None = None
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def rate(self) -> float:
        """Requests a second that go out at present."""
        return self._rate

    @property
    def waiting(self) -> int:
        """How many callers stand before the gate."""
        return self._waiting

    def open(self, spawn: Spawn) -> None:
        """The session is open: a gate with work of its own starts it here. This one has none."""

    def acquire_at_once(self) -> float | None:
        """What `acquire` gives, if nobody has to wait; None otherwise. Most calls need no more."""
        if self._waiting or self._closed:
            return None
        now = asyncio.get_running_loop().time()
        if self._opens_at() > now + EARLY:
            return None
        self._take(now)
        return now

    async def acquire(self, priority: Priority) -> float:
        """Wait for a turn; gives the loop time at which it came.

        Raises:
            NotSentError: the session is closed.
        """
        granted = self.acquire_at_once()
        if granted is not None:
            return granted
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        since = loop.time()
        waiter = _Waiter(loop.create_future(), since)
        self._queues[priority].append(waiter)
        while True:
            granted = await self._granted(waiter, priority, loop)
            if self._not_before <= granted + EARLY:
                return granted
            # A refusal became known between the grant and this step: its pause holds for this caller too.
            self._give_back(waiter.taken)
            self._free += 1
            waiter = _Waiter(loop.create_future(), since)
            self._queues[priority].appendleft(waiter)

    async def _granted(self, waiter: _Waiter, priority: Priority, loop: asyncio.AbstractEventLoop) -> float:
        """Wait in `priority`; the loop time of the grant."""
        self._waiting += 1
        self._serve(loop)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiting -= 1
                self._sweep(priority)
            elif waiter.turn.exception() is None:
                # Granted in the tick in which the caller was cancelled: nothing was sent, all is given back.
                self._give_back(waiter.taken)
                self.release()
            raise

    def release(self) -> None:
        """A request has come back (or failed): its place in flight is free."""
        self._free += 1
        if self._waiting:
            self._serve(asyncio.get_running_loop())

    def succeeded(self) -> None:
        """The service answered without complaint: the rate recovers a little."""
        self._outage = None
        if self._rate < self._limit.per_second:
            self._set_rate(min(self._limit.per_second, self._rate + self._limit.per_second * RECOVERY))

    def refused(self, sent_at: float, pause: float | None) -> None:
        """The service said "too fast" (429 or 503) to a request granted at `sent_at`.

        Nobody is let through for `pause` seconds. Refusals of requests that were already out at the last
        cut are echoes of it: they may lengthen the pause, but cut the rate no further.
        """
        now = asyncio.get_running_loop().time()
        if sent_at > self._last_cut:
            self._last_cut = now
            self._set_rate(max(self._limit.per_second * FLOOR, self._rate * CUT))
        self._pause(now + (pause or 0.0))

    def unreachable(self, sent_at: float) -> None:
        """The request granted at `sent_at` could not even be sent: nobody listens at the other end.

        While that lasts, everybody waits, longer each time, and few try: a queue of calls must not run into
        a closed door one after the other and fail. After a minute of it they may: it is no hiccup any more.
        """
        now = asyncio.get_running_loop().time()
        outage = self._outage = self._outage or _Outage(now)
        if now - outage.began > _PATIENCE or sent_at <= outage.last:
            return
        outage.last = now
        self._pause(now + outage.pause)
        outage.pause = min(_LONGEST_PAUSE, 2 * outage.pause)

    def close(self) -> None:
        """Whoever waits, and whoever comes, gets NotSentError."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for priority in self._queues:
            for waiter in priority:
                if not waiter.turn.done():
                    self._waiting -= 1
                    waiter.turn.set_exception(_closed())
            priority.clear()

    def _pause(self, until: float) -> None:
        """Nobody passes before `until`; then one after the other, an interval apart, and no burst."""
        self._not_before = max(self._not_before, until)
        self._arrival = max(self._arrival, self._not_before + (self._limit.burst - 1) / self._rate)

    def _set_rate(self, rate: float) -> None:
        """Change the rate; what was used of the burst stays used, and a pause is as long as it was."""
        base = max(asyncio.get_running_loop().time(), self._not_before)
        if self._arrival > base:
            self._arrival = base + (self._arrival - base) * self._rate / rate
        self._rate = rate

    def _set_timer(self, loop: asyncio.AbstractEventLoop, opens: float) -> None:
        if self._timer is not None:
            if self._timer.when() == opens and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = None if opens == float("inf") else loop.call_at(opens, self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._serve(loop)

    def _opens_at(self) -> float:
        """When the next may pass; infinite while too many are in flight."""
        if self._free <= 0:
            return float("inf")
        return max(self._not_before, self._arrival - (self._limit.burst - 1) / self._rate)

    def _take(self, now: float) -> Any:
        """Use up a turn; what this returns, if anything, `_give_back` is given."""
        self._free -= 1
        self._arrival = max(self._arrival, now) + 1 / self._rate

    def _give_back(self, taken: Any) -> None:
        self._arrival -= 1 / self._rate

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let through whoever may pass now, and set the one timer for the next."""
        now = loop.time()
        while self._waiting:
            opens = self._opens_at()
            if opens > now + EARLY:
                self._set_timer(loop, opens)
                return
            waiter = self._next()
            if waiter is None:
                return
            self._waiting -= 1
            waiter.taken = self._take(now)
            waiter.turn.set_result(now)

    def _next(self) -> _Waiter | None:
        """Whose turn it is: the most urgent lane's first, and every few grants the oldest of all.

        None when all who wait were cancelled in this tick: they are counted until they have noticed.
        """
        heads = []
        for priority in self._queues:
            while priority and priority[0].turn.done():
                priority.popleft()
            if priority:
                heads.append(priority)
        if not heads:
            return None
        self._turn += 1
        if self._turn % _SHARE_OF_THE_OLDEST == 0:
            return min(heads, key=lambda priority: priority[0].since).popleft()
        return heads[0].popleft()

    def _sweep(self, priority: Priority) -> None:
        """Drop cancelled waiters once they are the larger part, so that a long pause cannot pile them up."""
        queue = self._queues[priority]
        if len(queue) > 64 and len(queue) > 2 * self._waiting:
            alive = [waiter for waiter in queue if not waiter.turn.done()]
            queue.clear()
            queue.extend(alive)


@attrs.define(eq=False)
class _Outage:
    """Nobody listens, since loop time `began`; the next one who finds out makes all wait `pause` seconds."""

    began: float
    last: float = float("-inf")
    pause: float = 0.1


@attrs.define(eq=False)
class _Waiter:
    turn: asyncio.Future[float]
    since: float
    taken: Any = None


def _closed() -> NotSentError:
    return NotSentError("the session is closed", permanent=True)
