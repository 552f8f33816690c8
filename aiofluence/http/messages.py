"""Requests and replies as plain data: `Call`, `Request`, `Reply`, `Answer`, and the `Wire` interface.

Pure: no code here waits, retries or opens a socket. `Transport` turns a `Call` into a `Request`, a `Wire`
sends it, and `decode_reply` turns the `Reply` into a value or an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Final, NoReturn, Protocol, TypeAlias, TypeGuard

import attrs

from ..errors import ConfigError, DecodeError, RefusedError, ReplyError

Json: TypeAlias = Any
"""A decoded JSON value. `codec.structure` checks its shape."""

MiB: Final = 2**20
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_METHOD = re.compile(r"[A-Za-z]{1,32}")
BALANCES_PATH: Final = "/v2/users/balances"
ME_PATH: Final = "/v1/users/me"
_ACCOUNT_PATHS: Final = frozenset({BALANCES_PATH, ME_PATH})
"""Paths of the account, which are the only ones outside `/gpu` (contract 7)."""
_PATH = re.compile(r"/gpu(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


class Secrets(tuple[str, ...]):
    """Texts that no error may repeat. Their repr, as in a traceback with locals, does not show them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secrets({len(self)})"


_NONE: Final = Secrets()


def safe_id(id: object) -> str:
    """Return `id` if `is_safe_id`; raise ConfigError otherwise."""
    if is_safe_id(id):
        return id
    raise ConfigError(f"{id!r} is not the id of an instance")


def is_safe_id(id: object) -> TypeGuard[str]:
    """Return True if `id` is 1-64 characters of `A-Z a-z 0-9 _ -`, so that it cannot change a path."""
    return isinstance(id, str) and _ID.fullmatch(id) is not None


def safe_method(method: object) -> str:
    """Return `method` in capitals if a request line may contain it; raise ConfigError otherwise."""
    if isinstance(method, str) and _METHOD.fullmatch(method):
        return method.upper()
    raise ConfigError(f"{method!r} is not a method; it looks like 'GET'")


def safe_path(path: object) -> str:
    """Return `path` if it stays below `/gpu`, or is an account path; raise ConfigError otherwise.

    It has no dot segments, no query, and no character that needs escaping.
    """
    if isinstance(path, str) and (_PATH.fullmatch(path) or path in _ACCOUNT_PATHS):
        return path
    raise ConfigError(f"{path!r} is not a path of the GPU Cloud; it looks like '/gpu/plans/'")


class Retryable(Enum):
    """Permission to send a call again when its outcome is unknown."""

    ALWAYS = "always"
    """A read changes nothing."""
    CHECK_FIRST = "check first"
    """Only after a poll: the service refuses a second PUT or DELETE if the first one worked."""
    NEVER = "never"
    """A second POST would deploy a second machine, with a second bill."""


class Priority(IntEnum):
    """Priority of a call at the rate limiter, highest first. The rate limiter never starves a priority."""

    TERMINATE = 0
    HANDOVER = 1
    """An ACTIVE instance is already paid for: hand it over before more are deployed. See `Poll.prefer`."""
    DEPLOY = 2
    AWAITED = 3
    POLL = 4
    TAIL = 5


def refuse_to_pickle(self: object) -> NoReturn:
    """Keep the API key and request bodies out of pickles, whatever object holds them."""
    raise TypeError(
        f"{type(self).__name__} holds secrets and is never pickled; make a session where you need it"
    )


@attrs.frozen
class Call:
    """An endpoint, or one call to an endpoint, as data. The body holds secrets, so no repr shows it.

    Attributes:
        is_text: True if the reply quotes a container's output. Bytes that are not UTF-8 are replaced.
        cancelled_when: called when the rate limiter grants the call; True drops the call.
    """

    method: str
    path: str
    retryable: Retryable = Retryable.NEVER
    priority: Priority = Priority.AWAITED
    max_body: int = 16 * MiB
    query: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = attrs.field(default=b"", repr=False)
    is_text: bool = False
    cancelled_when: Callable[[], bool] | None = attrs.field(default=None, repr=False)

    def to(
        self,
        id: str | None = None,
        *,
        body: bytes = b"",
        priority: Priority | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Call:
        """Return this endpoint's call for an instance, body and query. Query values of None are left out."""
        path = self.path if id is None else self.path.replace("{id}", safe_id(id))
        texts = {name: str(value) for name, value in query.items() if value is not None} if query else {}
        priority = self.priority if priority is None else priority
        return Call(self.method, path, self.retryable, priority, self.max_body, texts, body, self.is_text)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)


@attrs.frozen
class Timeout:
    """Time limits of one attempt, in seconds: to connect, and from the start to the end of the reply."""

    connect: float = 10.0
    total: float = 60.0

    def __attrs_post_init__(self) -> None:
        if not (self.connect > 0 and self.total > 0):  # rejects NaN, which would break the timers
            raise ConfigError("Timeout needs connect > 0 and total > 0")

    @classmethod
    def of(cls, given: Timeout | float | None) -> Timeout:
        """Convert total seconds to a `Timeout`; return a `Timeout` unchanged, and the default for None."""
        if given is None:
            return cls()
        return given if isinstance(given, Timeout) else cls(total=given)


BEARER: Final = "Bearer "
"""Scheme of an access token in `Authorization`."""


class Headers(dict[str, str]):
    """Request headers. Their repr shows names but no values, because one value is the key."""

    @property
    def credential(self) -> str:
        """The API key, or the access token in its place."""
        return self.get("X-API-KEY") or self.get("Authorization", "").removeprefix(BEARER)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)


@attrs.define
class Request:
    """An HTTP request to one origin. `path` is a result of `safe_path`, safe to send unchanged.

    Not frozen: every call creates a request, and setting frozen fields takes six times as long. The headers
    hold the API key and the body holds secrets, so the repr shows neither.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    timeout: Timeout = Timeout()
    max_body: int = 16 * MiB

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)


@attrs.frozen
class Reply:
    """An HTTP reply with its whole body.

    Header names are looked up as the standards write them (`Retry-After`, `Date`). The repr shows neither
    headers nor body.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)

    def json(self) -> Json:
        """Decode the body as JSON.

        Raises:
            DecodeError: the body is not JSON.
        """
        return decode(None, self)


@attrs.define
class Answer:
    """The decoded body of a successful reply. It may hold secrets, so the repr does not show it."""

    call: Call
    value: Json = attrs.field(default=None, repr=False)


class Wire(Protocol):
    """Sender of single requests. The aiohttp wire and the simulator's wire implement it."""

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once and return the reply, whatever its status.

        Raises:
            NotSentError: the request was certainly not sent.
            NoReplyError: the request may have arrived, but no usable reply came in time.
            DecodeError: a 2xx reply is larger than `request.max_body` bytes.
        """
        ...

    async def aclose(self) -> None:
        """Close for good. Pending requests fail with one of the errors of `send`."""
        ...


def decode_reply(call: Call, reply: Reply, secrets: Secrets = _NONE) -> Json:
    """Return the decoded body of a 2xx, or None where the call has no body; raise an error otherwise.

    Args:
        call: the request.
        reply: the reply.
        secrets: texts that no error may repeat.

    Raises:
        ReplyError: the status is not 2xx. The subclass depends on the status and the text. Also for a 2xx to
            a POST whose body is a refusal that the service otherwise sends with 400.
        DecodeError: the reply is not in the service's format.
    """
    if not 200 <= reply.status < 300:
        raise refusal(call, reply, secrets)
    if call.method not in ("GET", "POST"):
        # PUT and DELETE answer 204 without a body (contract 1). A body comes from a portal or a proxy.
        if reply.body.strip():
            raise DecodeError("a success with a body where the service sends none", call=str(call))
        return None
    value = decode(call, reply)
    if call.method == "POST" and type(value) is dict and type(value.get("detail")) is str:
        stated = refusal(call, attrs.evolve(reply, status=400), secrets)
        if isinstance(stated, RefusedError) and type(stated) is not RefusedError:
            stated.status = reply.status
            del value  # the service may repeat secrets, and a traceback with locals would show them
            raise stated
    return value


def refusal(
    call: Call, reply: Reply, secrets: Collection[str] = (), service_time: datetime | None = None
) -> ReplyError | DecodeError:
    """Return the error for a reply other than 2xx; see `error_mapping`.

    Args:
        call: the request; the error shows stars in place of the secrets in its body.
        reply: the reply.
        secrets: further texts that no error may repeat.
        service_time: time at the service, as in `dates.retry_after`.
    """
    from . import error_mapping as refusals, redaction

    hidden = (*secrets, *redaction.secrets_in(call.body))
    error = refusals.refusal(
        reply.status, reply.headers, reply.body, call=str(call), hidden=hidden, service_time=service_time
    )
    if has_service_format(reply):
        return error
    message = f"HTTP {reply.status} without the service's JSON, so from a gateway: {error.detail}"
    return DecodeError(message, call=str(call), status=reply.status)


_OVERLOAD: Final = frozenset({408, 425, 429})
"""4xx statuses that mean the same from a gateway as from the service."""


def has_service_format(reply: Reply) -> bool:
    """Return True if an error reply is the service's own, so that its status has a meaning.

    The service sends every 4xx with a JSON object that has `detail` or `error` (contract 8). Redirects, 5xx
    and the statuses of overload mean the same from any sender.
    """
    if not 400 <= reply.status < 500 or reply.status in _OVERLOAD:
        return True
    try:
        said = decode(None, reply)
    except DecodeError:
        return False
    return type(said) is dict and bool(said.get("detail") or said.get("error"))


def decode(call: Call | None, reply: Reply) -> Json:
    """Decode the JSON body of `reply`, the reply to `call`.

    Raises:
        DecodeError: the body is not JSON: empty, HTML, NaN, bad UTF-8, or nested too deeply.
    """
    if _quick_decode is not None:
        try:
            return _quick_decode(reply.body)
        except ValueError:
            pass  # the standard decoder, which must accept the same, decodes the body or names the problem
    try:
        if call is not None and call.is_text:
            return _LENIENT.decode(reply.body.decode(errors="replace"))
        return _DECODER.decode(reply.body.decode())
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except RecursionError:
        problem = "nested too deeply"
    except ValueError:
        problem = "not JSON" if reply.body.strip() else "empty"
    # Raised outside `except`: the caught errors hold the whole body, which may hold secrets.
    raise DecodeError(f"the body ({len(reply.body)} bytes) is {problem}", call=str(call) if call else None)


def decode_rows(call: Call, reply: Reply) -> Iterator[Json]:
    """Iterate over the elements of the JSON array in the body of `reply`, and decode each on demand.

    A list of 10,000 instances takes so long to decode at once that it would block the event loop.

    Raises:
        DecodeError: the body is not JSON, or no array. Elements before the error have been returned.
    """
    try:
        text = reply.body.decode()
    except UnicodeDecodeError:
        text = ""
    if text.strip() == "null":  # Go's JSON encoder writes null for an empty list
        return
    match = _OPENING.match(text)
    while match is not None and match[1] != "]":
        row: Json = None
        try:
            row, position = _DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            match = None
            break
        yield row
        match = _BETWEEN.match(text, position)
    if match is None or match.end() < len(text):
        del text  # raised here, so that the traceback does not show the text
        raise DecodeError(f"the body ({len(reply.body)} bytes) is no JSON array", call=str(call))


_OPENING: Final = re.compile(r"\s*\[\s*(\]?)\s*")
_BETWEEN: Final = re.compile(r"\s*(,(?!\s*\])|\])\s*")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_LENIENT = json.JSONDecoder(parse_constant=_no_constant, strict=False)  # accepts control characters


def _find_quick_decode() -> Callable[[bytes], Json] | None:
    try:
        import orjson  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # orjson comes with the extra `speed`
        return None
    decode_quickly: Callable[[bytes], Json] = orjson.loads
    return decode_quickly


_quick_decode = _find_quick_decode()
