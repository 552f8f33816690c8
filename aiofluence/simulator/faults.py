"""Faults between the client and the service, scripted or random. Scripted faults go first.

A fault describes the end of one exchange. The wire or the server carries it out. Faults know no instances.
The simulator decides whether the request takes effect, before or after it answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any, Literal, TypeAlias

import attrs

from aiofluence.http.messages import Reply

from .routes import operation as operation_of

Moment: TypeAlias = Literal["before", "after"]


class Effect(Enum):
    """Action of the wire or the server on an exchange."""

    REPLY = "reply"
    RESET = "reset"
    HANG = "hang"
    REFUSE = "refuse"
    CUT = "cut"


@attrs.frozen
class FaultOutcome:
    """Result of one request.

    Attributes:
        reply: the answer. None unless `effect` is REPLY or CUT. With CUT, its body is the part that
            arrives before the connection breaks.
        effect: REPLY, or how the exchange breaks.
        delay: simulated seconds before the answer is sent.
    """

    reply: Reply | None
    effect: Effect = Effect.REPLY
    delay: float = 0.0


_GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\r\n"
_GATEWAY = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out"}
_JSON = "application/json"


@attrs.frozen
class Fault:
    """Failure of one exchange. The class methods create faults."""

    effect: Effect
    code: int | None = None
    content: bytes = attrs.field(default=b"", repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    delay: float = 0.0

    @classmethod
    def status(cls, code: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Fault:
        """Replace the service's answer with another one.

        Args:
            code: any HTTP status. With 2xx, the body replaces the true one.
            body: bytes unchanged, text as UTF-8, anything else as JSON. None means the HTML page of
                a gateway for 502, 503 and 504, `{"detail": …}` for other errors, and no body below 400.
            headers: for example `Retry-After`. They override `Date` and `Content-Type`.
        """
        content, kind = _content(code, body)
        given = {"Content-Type": kind} if content else {}
        return cls(Effect.REPLY, code, content, given | dict(headers or {}))

    @classmethod
    def body(cls, body: Any, headers: Mapping[str, str] | None = None) -> Fault:
        """Succeed with another body. The status is the true one if the request took effect, else 200."""
        content, _ = _content(200, body)
        return cls(Effect.REPLY, None, content, {"Content-Type": _JSON} | dict(headers or {}))

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Delay the true answer by simulated seconds. The request takes effect immediately."""
        return cls(Effect.REPLY, delay=seconds)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection without an answer."""
        return cls(Effect.RESET)

    @classmethod
    def hang(cls) -> Fault:
        """Keep the connection open without an answer."""
        return cls(Effect.HANG)

    @classmethod
    def refuse(cls) -> Fault:
        """Refuse the connection. A real server has already accepted it, and resets it instead."""
        return cls(Effect.REFUSE)

    @classmethod
    def cut(cls) -> Fault:
        """Send the head and half of the body, then break the connection. Without a body, reset it."""
        return cls(Effect.CUT)

    def outcome(self, reply: Reply | None, date: str) -> FaultOutcome:
        """Apply the fault to an exchange. `reply` is the true answer, None if the request had no effect."""
        if self.effect is Effect.CUT:
            whole = reply or Reply(200, {"Date": date, "Content-Type": _JSON}, b'{"instance_id": "00000000-')
            if not whole.body:
                return FaultOutcome(None, Effect.RESET)
            half = Reply(whole.status, whole.headers, whole.body[: len(whole.body) // 2])
            return FaultOutcome(half, Effect.CUT)
        if self.effect is not Effect.REPLY:
            return FaultOutcome(None, self.effect)
        if self.delay:
            return FaultOutcome(reply, Effect.REPLY, self.delay)
        status = self.code or (reply.status if reply is not None and reply.status < 300 else 200)
        if self.code is None and status == 204:
            status = 200  # a 204 has no body to replace
        return FaultOutcome(Reply(status, {"Date": date, **self.headers}, self.content))


def _content(code: int, body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "text/html"
    if isinstance(body, str):
        return body.encode(), "text/html"
    if body is not None:
        return json.dumps(body).encode(), _JSON
    if code in _GATEWAY:
        return _GATEWAY_PAGE.format(_GATEWAY[code]).encode(), "text/html"
    if code >= 400:
        return json.dumps({"detail": f"Simulated fault: status {code}"}).encode(), _JSON
    return b"", _JSON


@attrs.define
class Script:
    """A fault and the requests that it strikes, made by `Simulator.fail`.

    Attributes:
        operation: `"METHOD /template"`, `"METHOD /path"` with a real id, or `"*"`.
        times: number of requests still to strike. None means all.
        skip: number of matching requests that pass first.
        when: `"before"` prevents the effect of the request, `"after"` lets the request take effect first.
        commit_after: with `"before"`, simulated seconds after which the request takes effect nevertheless.
        struck: number of requests that the script has struck.

    Raises:
        ValueError: there is no such operation, or the values contradict each other.
    """

    operation: str
    fault: Fault
    times: int | None = 1
    skip: int = 0
    when: Moment = "before"
    commit_after: float | None = None
    struck: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        method, _, path = self.operation.partition(" ")
        if self.operation != "*" and operation_of(method, path) is None:
            raise ValueError(f"the service has no operation {self.operation!r}")
        late = self.commit_after is not None
        if self.fault.effect is Effect.REFUSE and (self.when == "after" or late):
            raise ValueError("a connection that was never made takes no effect")
        if late and (self.when == "after" or self.fault.delay):
            raise ValueError("commit_after is for a request that takes no effect at first")

    def strikes(self, names: Sequence[str]) -> bool:
        """Return True if the script strikes a request with these names. Count it down."""
        if self.times == 0 or self.operation not in names:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.struck += 1
        return True

    def cancel(self) -> None:
        """Strike no further request."""
        self.times = 0


RANDOM_FAULTS: tuple[Fault, ...] = (
    Fault.reset(),
    Fault.refuse(),
    Fault.cut(),
    Fault.status(500),
    Fault.status(502),
    Fault.status(503),
    Fault.status(504),
    Fault.status(429, headers={"Retry-After": "2"}),
)
"""Faults of `Simulator.random_faults`: all but hanging, which costs a client its whole timeout."""


class Faults:
    """All faults of one simulator."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self._rate = 0.0
        self._rng = Random(0)
        self._choices: Sequence[Fault] = RANDOM_FAULTS

    def randomly(self, rate: float, seed: int, choices: Sequence[Fault]) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is a share from 0 to 1, not {rate}")
        self._rate = rate
        self._rng = Random(seed)
        self._choices = choices

    def warnings(self) -> list[str]:
        """Return a sentence for each script that never struck, unless it was cancelled."""
        return [
            f"the fault scripted for {script.operation!r} never struck: "
            + ("too few such requests came" if script.skip else "no such request came")
            for script in self.scripts
            if not script.struck and script.times != 0
        ]

    def clear(self) -> None:
        self.scripts.clear()
        self._rate = 0.0

    def pick(self, names: Sequence[str]) -> Script | None:
        """Return the fault that strikes a request. The oldest script goes first."""
        for script in self.scripts:
            if script.strikes(names):
                return script
        if self._rate and self._rng.random() < self._rate:
            fault = self._rng.choice(self._choices)
            is_lost = fault.effect is Effect.REFUSE
            is_refused = fault.code in (429, 503)
            early = is_lost or is_refused or self._rng.random() < 0.5
            return Script("*", fault, when="before" if early else "after")
        return None
