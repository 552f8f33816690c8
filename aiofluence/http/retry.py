"""The retry policy: may a failed call be sent again, and after how long? `Transport` does the waiting.

This is the only layer of retries in the library. Of the backoff library, only the generators are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

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
"""Request Timeout and Too Early: a gateway sends them, and they say nothing about the request."""
_GATEWAYS: Final = frozenset({401, 403, 404})
"""Statuses of temporary gateway pages, such as during a new setup of an ingress."""


@attrs.frozen
class Retry:
    """Retry policy of a call.

    Attributes:
        attempts: maximum number of attempts, the first included.
        max_refusals: maximum number of attempts that the service refuses with 429 or 503. They do not count
            as `attempts`.
        base: seconds; the pause before attempt n+1 is a random number from 0 to `base` x 2^n ("full jitter").
        max_wait: seconds; maximum of a random pause. A `Retry-After` of the service may be longer.
        max_retry_after: seconds; a longer `Retry-After` is raised at once, without waiting.
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
        """Iterate over the pauses in seconds: before the second attempt, the third, and so on."""
        import backoff  # here, because most programs never wait

        steps = backoff.expo(base=2, factor=self.base, max_value=self.max_wait)
        for step in steps:
            if step is not None:  # the first value only primes the generator
                yield backoff.full_jitter(step)

    def pause_after(self, error: FluenceError, drawn: float) -> float | None:
        """Return the pause in seconds, at least the service's `Retry-After`; None if that is too long."""
        asked = error.retry_after if isinstance(error, RateLimitedError | ServerError) else None
        return None if asked is not None and asked > self.max_retry_after else max(drawn, asked or 0.0)


def may_repeat(call: Call, error: FluenceError) -> bool:
    """Return True if `Transport` may send `call` again after `error` without polling for its outcome.

    A request that was certainly not sent may always be sent again. After any other error, only a call that
    changes nothing may. The senders of POST, PUT and DELETE poll before they repeat.
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
    """Return True if `error` proves that its request changed nothing at the service.

    There are two proofs. The request was not sent, or the service refused it in its own format with a 4xx
    other than 408, 425 and 429. After every other error, the request may have taken effect.
    """
    if isinstance(error, ReplyError):
        if isinstance(error, RefusedError):
            return True
        return 400 <= error.status < 500 and not (
            isinstance(error, RateLimitedError) or error.status in _EARLY
        )
    return isinstance(error, NotSentError | ConfigError | SpecError)


def is_refusal(error: FluenceError) -> bool:
    """Return True if the service only said "too fast": 429, or 503, which nginx's limit_req answers."""
    return isinstance(error, RateLimitedError) or (isinstance(error, ServerError) and error.status == 503)


class RetryBudget:
    """Retry budget of a session: keeps retries a small share of all calls, to spare a broken service.

    Every call earns a fraction of a retry, and every retry spends one. A reserve covers quiet times.
    """

    def __init__(self, *, share: float = 0.2, reserve: float = 20.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Earn the share of one call."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Spend one retry; return False when none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
