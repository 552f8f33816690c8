"""The loop that turns a call into an answer: rate limiter, wire, decoding, and retries.

Independent of endpoints and of HTTP libraries. `Call.retryable` decides if a call may be repeated, and
`retry` decides when. This module executes both decisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NoReturn, TypeAlias

import attrs

from ..background import Owner, loop_time
from ..errors import Attempt, FluenceError, NotSentError
from .dates import http_date, retry_after
from .messages import (
    Answer,
    Call,
    Headers,
    Priority,
    Reply,
    Request,
    Secrets,
    Timeout,
    Wire,
    decode_reply,
    refusal,
    refuse_to_pickle,
)
from .rate_limit import RateLimiter
from .retry import Retry, RetryBudget, is_refusal, may_repeat

OnReply: TypeAlias = Callable[[Call, Reply], object]
"""Function called with each call and its raw reply, before decoding. Its exceptions are only logged."""

log: Final = logging.getLogger("aiofluence")


class ServerClock:
    """The service's time, from the `Date` of its last reply. No clock of this machine has to be right."""

    def __init__(self) -> None:
        self._date: str | None = None
        self._noted = 0.0

    def note(self, date: str | None, now: float) -> None:
        """Store the `Date` of a reply that arrived at loop time `now`."""
        if date is not None:
            self._date, self._noted = date, now

    def at(self, moment: float) -> datetime | None:
        """Return the service's time at loop time `moment`, to about a second; None before the first reply."""
        if self._date is None:
            return None
        date = http_date(self._date)
        return None if date is None else date + timedelta(seconds=moment - self._noted)

    @property
    def now(self) -> datetime | None:
        """The service's time now. None before the first reply."""
        return self.at(loop_time())


@attrs.frozen
class Transport:
    """Sender of a session's calls. A copy with other timeouts shares limiter, pool, budget and clock."""

    wire: Wire
    limiter: RateLimiter
    headers: Headers = attrs.field(repr=False)
    timeout: Timeout = attrs.field(factory=Timeout)
    retry: Retry = attrs.field(factory=Retry)
    budget: RetryBudget = attrs.field(factory=RetryBudget, repr=False)
    on_reply: OnReply | None = None
    watch: OnReply | None = None
    """Observer of each reply, like `on_reply`, that `with_options` keeps; see `resources.drift`."""
    clock: ServerClock = attrs.field(factory=ServerClock, repr=False)
    warned: set[str] = attrs.field(factory=set, repr=False)
    """Subjects of warnings that were already logged; see `resources.rows`."""
    own_images: set[str] = attrs.field(factory=set, repr=False)
    """Images that the service lists as its own."""
    owner: Owner = attrs.field(factory=Owner, repr=False)
    pace: float = 1.0
    """Real seconds per second of the service's known delays. Less than 1 in a time-lapse."""

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)

    async def call(self, call: Call, *, deadline: float | None = None) -> Answer:
        """Send `call` and return its decoded answer.

        Args:
            call: the call to send.
            deadline: loop time at which the call gives up; None for no deadline.

        Raises:
            NotSentError: the request was certainly not sent.
            NoReplyError: no usable reply came; the request may have taken effect.
            ReplyError: the service refused the call, or failed in all attempts.
            DecodeError: a 2xx reply is not JSON, or too large.
        """
        reply = await self.exchange(call, deadline=deadline)
        return Answer(call, decode_reply(call, reply, self._secrets()))

    async def exchange(self, call: Call, *, deadline: float | None = None) -> Reply:
        """Send `call` and return the raw 2xx reply. Arguments and errors are those of `call`."""
        loop = asyncio._get_running_loop()
        if loop is None or loop is not self.owner.loop:  # inlined, because every call passes here
            loop = self.owner.settle(loop)
        self.budget.earn()
        waits = None
        attempts: list[Attempt] = []
        while True:
            began = loop.time()
            try:
                reply = await self._once(call, deadline)
                if 200 <= reply.status < 300:
                    return reply
                error: FluenceError = refusal(call, reply, self._secrets(), self.clock.now)
            except FluenceError as caught:
                error = caught
            now = loop.time()
            waits = waits or self.retry.waits()
            wait = self._wait_before_next(call, error, attempts, next(waits))
            if wait is not None and deadline is not None and now + wait >= deadline:
                wait = None
            attempts.append(Attempt(error, now - began, wait or 0.0))
            if wait is None:
                break
            await asyncio.sleep(wait)
        error.call = error.call or str(call)
        error.attempts = tuple(attempts)
        raise error

    def _secrets(self) -> Secrets:
        return Secrets((self.headers.credential,))

    async def _once(self, call: Call, deadline: float | None) -> Reply:
        """Make one attempt: wait for the rate limiter, send, and report the outcome to the rate limiter."""
        granted = self.limiter.acquire_at_once()
        if granted is None:
            granted = await self._grant(call.priority, deadline)
        if call.cancelled_when is not None and call.cancelled_when():
            self.limiter.release()
            raise NotSentError("its caller no longer waits for it", permanent=True)
        timeout = self.timeout
        if deadline is not None and deadline - granted < timeout.total:
            timeout = attrs.evolve(timeout, total=max(0.001, deadline - granted))
        request = Request(call.method, call.path, call.query, self.headers, call.body, timeout, call.max_body)
        try:
            reply = await self.wire.send(request)
            log.debug("%s: %s", call, reply.status)
            self._learn(call, reply, granted)
        except FluenceError as error:
            log.debug("%s: %s", call, error)
            if isinstance(error, NotSentError) and not error.permanent:
                self.limiter.unreachable(granted)
            raise
        finally:
            # Released last: the rate limiter must know of a refusal before it grants the next request.
            self.limiter.release()
        return reply

    def _learn(self, call: Call, reply: Reply, granted: float) -> None:
        """Store the service's time, report the status to the rate limiter, and call `on_reply`."""
        self.clock.note(reply.headers.get("Date"), asyncio.get_running_loop().time())
        if reply.status in (429, 503):
            # nginx's limit_req answers 503. Both mean "too fast", for every call of this session.
            pause = retry_after(reply.headers, self.clock.now)
            self.limiter.refused(granted, min(pause or 0.0, self.retry.max_retry_after))
        elif reply.status < 500:
            self.limiter.succeeded()
        if self.watch is not None:
            self.watch(call, reply)
        if self.on_reply is not None:
            try:
                self.on_reply(call, reply)
            except Exception:  # a failing observer must not cost the id of an instance
                log.exception("on_reply failed")

    async def _grant(self, priority: Priority, deadline: float | None) -> float:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.limiter.acquire(priority)
        except TimeoutError:
            pass
        raise NotSentError("the deadline passed before the rate limiter granted the request", permanent=True)

    def _wait_before_next(
        self, call: Call, error: FluenceError, before: list[Attempt], drawn: float
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None to give up."""
        if not may_repeat(call, error):
            return None
        pause = self.retry.pause_after(error, drawn)
        if pause is None:
            return None
        refusals = sum(is_refusal(attempt.error) for attempt in before)
        if is_refusal(error):
            # A refusal costs the service little, and the rate limiter slows down: many tries, no budget.
            if refusals + 1 >= self.retry.max_refusals:
                return None
        elif len(before) - refusals + 1 >= self.retry.attempts:
            return None
        elif not isinstance(error, NotSentError) and not self.budget.spend():
            return None  # a request that was not sent costs the service nothing, so it needs no budget
        return pause
