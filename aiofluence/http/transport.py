"""The one loop between a call and its answer: gate, wire, decipher, and perhaps again.

Knows no endpoint and no HTTP library. Whether a call may be repeated stands on the call (`Retryable`),
when in `retry`; here is only the doing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NoReturn, TypeAlias

import attrs

from ..background import Owner
from ..errors import Attempt, FluenceError, NotSentError
from .error_mapping import http_date, retry_after
from .messages import (
    Answer,
    Call,
    Headers,
    Priority,
    Reply,
    Request,
    Timeout,
    Wire,
    decode_reply,
    refusal,
    refuse_to_pickle,
)
from .rate_limit import RateLimiter
from .redaction import Secrets
from .retry import Retry, RetryBudget, is_refusal, may_repeat

OnReply: TypeAlias = Callable[[Call, Reply], object]
"""Called with each call and its raw reply, before it is judged. What it raises is logged, and no more."""

log: Final = logging.getLogger("aiofluence")


class ServerClock:
    """What time it is at the service, from the `Date` of its last answer; no clock here has to be right."""

    def __init__(self) -> None:
        self._date: str | None = None
        self._noted = 0.0

    def note(self, date: str | None, now: float) -> None:
        """An answer came at loop time `now`."""
        if date is not None:
            self._date, self._noted = date, now

    def at(self, moment: float) -> datetime | None:
        """The service's time at loop time `moment`, to about a second; None before the first answer."""
        if self._date is None:
            return None
        date = http_date(self._date)
        return None if date is None else date + timedelta(seconds=moment - self._noted)


@attrs.frozen
class Transport:
    """Carries the calls of one session; a copy with other timeouts shares gate, pool, budget and clock."""

    wire: Wire
    gate: RateLimiter
    headers: Headers = attrs.field(repr=False)
    timeout: Timeout = attrs.field(factory=Timeout)
    retry: Retry = attrs.field(factory=Retry)
    budget: RetryBudget = attrs.field(factory=RetryBudget, repr=False)
    on_reply: OnReply | None = None
    clock: ServerClock = attrs.field(factory=ServerClock, repr=False)
    warned: set[str] = attrs.field(factory=set, repr=False)
    """Subjects of warnings that were logged; see `resources.rows`."""
    own_images: set[str] = attrs.field(factory=set, repr=False)
    """Images that the service has listed as its own."""
    owner: Owner = attrs.field(factory=Owner, repr=False)
    pace: float = 1.0
    """Real seconds to one of the seconds that the service's ways are known in: less than 1 in time-lapse."""

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)

    async def call(self, call: Call, *, deadline: float | None = None) -> Answer:
        """Make `call`; its decoded answer.

        Args:
            call: what to send.
            deadline: loop time at which to give up, whatever else would still be allowed.

        Raises:
            NotSentError: it certainly never left.
            NoReplyError: no usable answer; what the call does may have happened.
            ReplyError: the service refused, or stayed in trouble through all attempts.
            DecodeError: a 2xx answer that is not JSON, or too large.
        """
        reply = await self.exchange(call, deadline=deadline)
        return Answer(call, decode_reply(call, reply, self._secrets()))

    async def exchange(self, call: Call, *, deadline: float | None = None) -> Reply:
        """Make `call`; the 2xx answer as it came.

        Raises:
            FluenceError: as `call`, but for a body that is not JSON.
        """
        loop = asyncio._get_running_loop()
        if loop is None or loop is not self.owner.loop:  # in place: every call passes here
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
                error: FluenceError = refusal(call, reply, self._secrets(), self.clock.at(loop.time()))
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
        """One attempt: a turn at the gate, the wire, and what the gate learns from the answer."""
        granted = self.gate.acquire_at_once()
        if granted is None:
            granted = await self._turn(call.priority, deadline)
        if call.cancelled_when is not None and call.cancelled_when():
            self.gate.release()
            raise NotSentError("nobody waits for it any more", permanent=True)
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
                self.gate.unreachable(granted)
            raise
        finally:
            # The gate knows of a refusal before the place in flight is free: the next request must not pass.
            self.gate.release()
        return reply

    def _learn(self, call: Call, reply: Reply, granted: float) -> None:
        """Note the service's time, let the gate know of a refusal, and show the reply to `on_reply`."""
        self.clock.note(reply.headers.get("Date"), asyncio.get_running_loop().time())
        if reply.status in (429, 503):
            # nginx's limit_req answers 503: both mean "too fast", for everybody in this session.
            pause = retry_after(reply.headers, self.clock.at(asyncio.get_running_loop().time()))
            self.gate.refused(granted, min(pause or 0.0, self.retry.max_retry_after))
        elif reply.status < 500:
            self.gate.succeeded()
        if self.on_reply is not None:
            try:
                self.on_reply(call, reply)
            except Exception:  # whoever only looks on must not cost the id of an instance
                log.exception("on_reply failed")

    async def _turn(self, priority: Priority, deadline: float | None) -> float:
        if deadline is None:
            return await self.gate.acquire(priority)
        try:
            async with asyncio.timeout_at(deadline):
                return await self.gate.acquire(priority)
        except TimeoutError:
            pass
        raise NotSentError("the deadline passed while waiting for a turn", permanent=True)

    def _wait_before_next(
        self, call: Call, error: FluenceError, before: list[Attempt], drawn: float
    ) -> float | None:
        """Seconds to wait before the next try; None to give up."""
        if not may_repeat(call, error):
            return None
        pause = self.retry.pause_after(error, drawn)
        if pause is None:
            return None
        refusals = sum(is_refusal(attempt.error) for attempt in before)
        if is_refusal(error):
            # Costs the service next to nothing, and the gate slows after each: patience, and no budget.
            if refusals + 1 >= self.retry.max_refusals:
                return None
        elif len(before) - refusals + 1 >= self.retry.attempts:
            return None
        elif not isinstance(error, NotSentError) and not self.budget.spend():
            return None  # what never arrived burdens nobody, so it is not in the budget
        return pause
