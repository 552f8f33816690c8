"""The rate limiter of a session: rate, number of requests in flight, and order of priority.

The rate is limited by GCRA: one number instead of a bucket and a refill task. Each priority has a FIFO queue.
When the service refuses requests, the whole session pauses. The only clock is the event loop's. The rate
limiter sends nothing itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import attrs

from ..background import session_closed
from ..errors import ConfigError
from .messages import Priority

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]
"""Function that runs a coroutine as a task of the session."""


@attrs.frozen
class RateLimit:
    """Rate of a session: in any window of W seconds, at most `burst` + `per_second` x W requests are sent.

    The service documents no limit, so 10 per second is an assumption. A 429 or 503 lowers the rate. Each
    success raises it again, up to `per_second`.
    """

    per_second: float = 10.0
    burst: int = 20

    def __attrs_post_init__(self) -> None:
        if not (0 < self.per_second < float("inf") and self.burst >= 1):
            raise ConfigError("RateLimit needs per_second > 0 and burst >= 1")

    def limiter(self, max_in_flight: int) -> RateLimiter:
        """Create the rate limiter of one session."""
        return RateLimiter(self, max_in_flight)


_SHARE_OF_THE_OLDEST: Final = 4
"""Every n-th grant goes to the caller that has waited longest, whatever its priority. Urgent calls still
overtake a queue of other calls at once, but a queue of urgent calls cannot starve the others."""
EARLY: Final = 1e-9
"""Seconds by which the loop may fire a timer early, because of its clock's resolution."""
_PATIENCE: Final = 60.0
_LONGEST_PAUSE: Final = 2.0
CUT: Final = 0.5
FLOOR: Final = 0.02
RECOVERY: Final = 0.01
"""A refusal halves the rate, to no less than 2 % of the limit. Each success restores 1 % of the limit."""


class RateLimiter:
    """Rate limiter of a session. A `release` must follow each `acquire` that returned.

    A subclass with another source of grants overrides `_opens_at`, `_take` and `_give_back`.
    """

    def __init__(self, rate: RateLimit, max_in_flight: int) -> None:
        self._limit = rate
        self._rate = rate.per_second
        self._free = max_in_flight
        self._queues: tuple[deque[_Pending], ...] = tuple(deque() for _ in Priority)
        self._waiting = 0
        self._arrival = 0.0
        """GCRA's theoretical arrival time: one number that is both bucket and refill."""
        self._not_before = 0.0
        self._last_cut = float("-inf")
        self._outage: _Unreachable | None = None
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def rate(self) -> float:
        """Requests per second that the session may send now."""
        return self._rate

    @property
    def waiting(self) -> int:
        """Number of callers that wait for a grant."""
        return self._waiting

    def open(self, spawn: Spawn) -> None:
        """Start background work with `spawn`, when the session opens. This class has none."""

    def acquire_at_once(self) -> float | None:
        """Return the loop time of the grant as `acquire` does, or None if the caller would have to wait."""
        if self._waiting or self._closed:
            return None
        now = asyncio.get_running_loop().time()
        if self._opens_at() > now + EARLY:
            return None
        self._take(now)
        return now

    async def acquire(self, priority: Priority) -> float:
        """Wait for a grant and return its loop time.

        Raises:
            NotSentError: the session is closed.
        """
        granted = self.acquire_at_once()
        if granted is not None:
            return granted
        if self._closed:
            raise session_closed()
        loop = asyncio.get_running_loop()
        since = loop.time()
        waiter = _Pending(loop.create_future(), since)
        self._queues[priority].append(waiter)
        while True:
            granted = await self._granted(waiter, priority, loop)
            if self._not_before <= granted + EARLY:
                return granted
            # A refusal arrived between the grant and this line. Its pause applies to this caller too.
            self._give_back(waiter.taken)
            self._free += 1
            waiter = _Pending(loop.create_future(), since)
            self._queues[priority].appendleft(waiter)

    async def _granted(self, waiter: _Pending, priority: Priority, loop: asyncio.AbstractEventLoop) -> float:
        """Wait in the queue of `priority` and return the loop time of the grant."""
        self._waiting += 1
        self._serve(loop)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiting -= 1
                self._sweep(priority)
            elif waiter.turn.exception() is None:
                # Granted in the same tick as the cancellation: nothing was sent, so the grant is returned.
                self._give_back(waiter.taken)
                self.release()
            raise

    def release(self) -> None:
        """Report that a request is no longer in flight, whether it succeeded or failed."""
        self._free += 1
        if self._waiting:
            self._serve(asyncio.get_running_loop())

    def succeeded(self) -> None:
        """Report a reply without a refusal: the rate recovers a little."""
        self._outage = None
        if self._rate < self._limit.per_second:
            self._set_rate(min(self._limit.per_second, self._rate + self._limit.per_second * RECOVERY))

    def refused(self, sent_at: float, pause: float | None) -> None:
        """Report a 429 or 503 to a request that was granted at loop time `sent_at`.

        No request is granted for `pause` seconds. A refusal of a request that was in flight at the last cut
        is a consequence of the same overload. It may lengthen the pause, but does not cut the rate again.
        """
        now = asyncio.get_running_loop().time()
        if sent_at > self._last_cut:
            self._last_cut = now
            self._set_rate(max(self._limit.per_second * FLOOR, self._rate * CUT))
        self._pause(now + (pause or 0.0))

    def unreachable(self, sent_at: float) -> None:
        """Report that the request granted at `sent_at` could not be sent, as the service is unreachable.

        During an outage all callers wait, longer after each failure, and few requests are tried. Otherwise a
        whole queue of calls would fail one after the other. After a minute of outage, requests are no longer
        delayed, and fail.
        """
        now = asyncio.get_running_loop().time()
        outage = self._outage = self._outage or _Unreachable(now)
        if now - outage.began > _PATIENCE or sent_at <= outage.last:
            return
        outage.last = now
        self._pause(now + outage.pause)
        outage.pause = min(_LONGEST_PAUSE, 2 * outage.pause)

    def close(self) -> None:
        """Fail pending and future calls of `acquire` with NotSentError."""
        self._closed = True
        for queue in self._queues:
            for waiter in queue:
                if not waiter.turn.done():
                    self._waiting -= 1
                    waiter.turn.set_exception(session_closed())
            queue.clear()

    def _pause(self, until: float) -> None:
        """Grant nothing before `until`, and afterwards one request per interval, without a burst."""
        self._not_before = max(self._not_before, until)
        self._arrival = max(self._arrival, self._not_before + (self._limit.burst - 1) / self._rate)

    def _set_rate(self, rate: float) -> None:
        """Change the rate. The used part of the burst stays used, and a pause keeps its length."""
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
        """Return the loop time of the next possible grant; infinite at the limit of requests in flight."""
        if self._free <= 0:
            return float("inf")
        return max(self._not_before, self._arrival - (self._limit.burst - 1) / self._rate)

    def _take(self, now: float) -> Any:
        """Use up one grant. Return a value, or None, that `_give_back` gets if the grant is returned."""
        self._free -= 1
        self._arrival = max(self._arrival, now) + 1 / self._rate

    def _give_back(self, taken: Any) -> None:
        self._arrival -= 1 / self._rate

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Grant all requests that are due, and set the only timer for the next grant."""
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

    def _next(self) -> _Pending | None:
        """Take the next waiter: the first of the highest priority, or at every n-th grant the oldest of all.

        Return None when every waiter was cancelled in this tick. `_waiting` counts a cancelled waiter until
        its task has run.
        """
        queues = []
        for queue in self._queues:
            while queue and queue[0].turn.done():
                queue.popleft()
            if queue:
                queues.append(queue)
        if not queues:
            return None
        self._turn += 1
        if self._turn % _SHARE_OF_THE_OLDEST == 0:
            return min(queues, key=lambda queue: queue[0].since).popleft()
        return queues[0].popleft()

    def _sweep(self, priority: Priority) -> None:
        """Drop cancelled waiters once they are the majority, so that they do not pile up in a long pause."""
        queue = self._queues[priority]
        if len(queue) > 64 and len(queue) > 2 * self._waiting:
            alive = [waiter for waiter in queue if not waiter.turn.done()]
            queue.clear()
            queue.extend(alive)


@attrs.define(eq=False)
class _Unreachable:
    """An outage since loop time `began`. The next failure makes all callers wait `pause` seconds."""

    began: float
    last: float = float("-inf")
    pause: float = 0.1


@attrs.define(eq=False)
class _Pending:
    turn: asyncio.Future[float]
    since: float
    taken: Any = None
