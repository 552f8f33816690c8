"""May a failed call be tried again, and after how long? Pure policy; `Transport` does the waiting.

One layer of retries for the whole library. Of the backoff library only the generators are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
import backoff

from ..errors import (
    ConfigError,
    DecodeError,
    FluenceError,
    NoReplyError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    ReplyError,
    ServerError,
    SpecError,
)
from .messages import Call, Retryable

_EARLY: Final = frozenset({408, 425})
"""Timeout and "too early": a gateway's, and no statement about the request."""
_GATEWAYS: Final = frozenset({401, 403, 404})
"""Statuses of gateway pages that pass, such as while an ingress is set up anew."""


@attrs.frozen
class Retry:
    """How often a call is tried, and how long it waits in between.

    Attributes:
        attempts: tries in all, the first included.
        max_refusals: tries that may be refused at the door (429, 503); they do not count as attempts.
        base: seconds; the wait before try n+1 is drawn from 0 to `base` x 2^n ("full jitter").
        max_wait: seconds; no drawn wait is longer. A server's `Retry-After` may be.
        max_retry_after: seconds; a longer `Retry-After` is raised at once instead of waited for.
    """

    attempts: int = 5
    max_refusals: int = 25
    base: float = 0.5
    max_wait: float = 10.0
    max_retry_after: float = 120.0

    def __attrs_post_init__(self) -> None:
        seconds = (self.base, self.max_wait, self.max_retry_after)
        if not (self.attempts >= 1 and self.max_refusals >= 1 and all(each >= 0 for each in seconds)):
            raise ConfigError("Retry needs attempts and max_refusals >= 1, and no wait below 0")

    def waits(self) -> Iterator[float]:
        """Seconds to wait before the second try, the third, and so on."""
        steps = backoff.expo(base=2, factor=self.base, max_value=self.max_wait)
        for step in steps:
            if step is not None:  # the first value only primes the generator
                yield backoff.full_jitter(step)

    def pause_after(self, error: FluenceError, drawn: float) -> float | None:
        """Seconds to wait after `error`, at least as long as the service asks; None: that is too long."""
        asked = error.retry_after if isinstance(error, RateLimitedError | ServerError) else None
        return None if asked is not None and asked > self.max_retry_after else max(drawn, asked or 0.0)


def may_repeat(call: Call, error: FluenceError) -> bool:
    """Whether `Transport` may send `call` again after `error`, without a look at what became of it.

    A request that never left may always be sent again. After any other error only a call that changes
    nothing may: the senders of POST, PUT and DELETE look before they repeat.
    """
    if isinstance(error, NotSentError):
        return not error.permanent
    if call.retryable is not Retryable.ALWAYS:
        return False
    if isinstance(error, DecodeError):
        return error.status in _GATEWAYS
    return isinstance(error, NoReplyError | RateLimitedError | ServerError) or (
        isinstance(error, ReplyError) and error.status in _EARLY
    )


def is_certain(error: BaseException) -> bool:
    """Whether `error` proves that the request that raised it changed nothing at the service.

    The list is short: the request never left, or the service refused it in its own format with a 4xx
    other than 408, 425 and 429. After every other error the request may have been carried out.
    """
    if isinstance(error, ReplyError):
        if isinstance(error, RefusedError):
            return True
        return 400 <= error.status < 500 and not (
            isinstance(error, RateLimitedError) or error.status in _EARLY
        )
    return isinstance(error, NotSentError | ConfigError | SpecError)


def is_refusal(error: FluenceError) -> bool:
    """Whether the service only said "too fast": 429, or 503, which is what nginx's limit_req answers."""
    return isinstance(error, RateLimitedError) or (isinstance(error, ServerError) and error.status == 503)


class RetryBudget:
    """Keeps retries a small share of all calls, so that a struggling service is not pushed over.

    Every call earns a fraction of a retry, every retry spends one; a reserve allows for quiet times.
    """

    def __init__(self, *, share: float = 0.2, reserve: float = 20.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """A call begins."""
        if self._left < self._reserve:
            self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
