"""What goes over the wire, as plain data: Call, Request, Reply, the Wire seam, and decipher().

Pure: nothing here waits, retries or opens a socket. `Transport` turns a Call into a Request,
a `Wire` carries it, and `decode_reply` says what the Reply means.
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
from . import error_mapping as refusals, redaction
from .redaction import Secrets

Json: TypeAlias = Any
"""A decoded JSON value; `convert.structure` checks its shape."""

MiB: Final = 2**20
_NONE: Final = Secrets()
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_METHOD = re.compile(r"[A-Za-z]{1,32}")
BALANCES_PATH: Final = "/v2/users/balances"
ME_PATH: Final = "/v1/users/me"
_BESIDE: Final = frozenset({BALANCES_PATH, ME_PATH})
"""Paths of the account, which are the only ones outside `/gpu` (contract 7)."""
_PATH = re.compile(r"/gpu(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


def safe_id(id: object) -> str:
    """`id` if it cannot change the path it is put into.

    Raises:
        ConfigError: it is not 1-64 characters of `A-Z a-z 0-9 _ -`.
    """
    if is_safe_id(id):
        return id
    raise ConfigError(f"{id!r} is not the id of an instance")


def is_safe_id(id: object) -> TypeGuard[str]:
    """Whether `id` is 1-64 characters of `A-Z a-z 0-9 _ -`, so that it cannot change a path."""
    return isinstance(id, str) and _ID.fullmatch(id) is not None


def safe_method(method: object) -> str:
    """`method` in capitals, if it can stand in a request's first line.

    Raises:
        ConfigError: it is more than a word.
    """
    if isinstance(method, str) and _METHOD.fullmatch(method):
        return method.upper()
    raise ConfigError(f"{method!r} is not a method; it looks like 'GET'")


def safe_path(path: object) -> str:
    """`path` if it stays below `/gpu`: no dots that climb, no query, nothing that must be escaped.

    The two paths of the account beside `/gpu` are good as well.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(path, str) and (_PATH.fullmatch(path) or path in _BESIDE):
        return path
    raise ConfigError(f"{path!r} is not a path of the GPU Cloud; it looks like '/gpu/plans/'")


class Retryable(Enum):
    """Whether a call may be sent again when nobody knows what became of it."""

    ALWAYS = "always"
    """Reading changes nothing."""
    LOOK = "look"
    """Only after a look: a second PUT or DELETE is refused when the first one worked."""
    NEVER = "never"
    """A second POST is a second machine, and a second bill."""


class Priority(IntEnum):
    """Who goes first when calls queue; the gate sees to it that none starves."""

    TERMINATE = 0
    HANDOVER = 1
    """What is ACTIVE and paid for is handed over before more is deployed; see `Poll.prefer`."""
    DEPLOY = 2
    AWAITED = 3
    POLL = 4
    TAIL = 5


def refuse_to_pickle(self: object) -> NoReturn:
    """Keep the API key and the bodies of requests out of pickles, whatever object holds them."""
    raise TypeError(
        f"{type(self).__name__} holds secrets and is never pickled; make a session where you need it"
    )


@attrs.frozen
class Call:
    """One endpoint, or one call of it, as data. The body carries secrets and is in no repr.

    `is_text`: the reply quotes a container's output, which need be no UTF-8: bad bytes are replaced.
    `cancelled_when` is asked when the call's turn has come: if it says True, nobody wants it sent any more.
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
        """This endpoint for one instance, body and query; query values that are None are left out.

        Raises:
            ConfigError: the id is not 1-64 characters of `A-Z a-z 0-9 _ -`, so it could change the path.
        """
        path = self.path if id is None else self.path.replace("{id}", safe_id(id))
        asked = {name: str(value) for name, value in query.items() if value is not None} if query else {}
        priority = self.priority if priority is None else priority
        return Call(self.method, path, self.retryable, priority, self.max_body, asked, body, self.is_text)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)


@attrs.frozen
class Timeout:
    """How long one attempt may take, in seconds: to connect, and from start to the end of the reply."""

    connect: float = 10.0
    total: float = 60.0

    def __attrs_post_init__(self) -> None:
        if not (self.connect > 0 and self.total > 0):  # nor NaN, which would unsettle the loop's timers
            raise ConfigError("Timeout needs connect > 0 and total > 0")

    @classmethod
    def of(cls, given: Timeout | float | None) -> Timeout:
        """`given` itself, or that many seconds in all; None is the default."""
        if given is None:
            return cls()
        return given if isinstance(given, Timeout) else cls(total=given)


BEARER: Final = "Bearer "
"""Scheme of an access token in `Authorization`."""


class Headers(dict[str, str]):
    """Request headers; their repr shows names, never values, for one is the key."""

    @property
    def credential(self) -> str:
        """The API key, or the access token that takes its place."""
        return self.get("X-API-KEY") or self.get("Authorization", "").removeprefix(BEARER)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)


@attrs.define
class Request:
    """One HTTP request to one origin; `path` is one of `safe_path` and safe to send as it is.

    Not frozen, for one is made per call: frozen, its fields would take six times as long to set.
    Headers carry the API key and bodies carry secrets, so neither is in the repr.
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
    """One HTTP answer, body read to its end.

    Header names are looked up as the standards write them (`Retry-After`, `Date`). Neither headers nor
    body are in the repr.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)

    def json(self) -> Json:
        """The body as JSON.

        Raises:
            DecodeError: it is not JSON.
        """
        return decode(None, self)


@attrs.define
class Answer:
    """What a call came to: its decoded body, which may hold secrets and is in no repr."""

    call: Call
    value: Json = attrs.field(default=None, repr=False)


class Wire(Protocol):
    """Carries one request, once. The aiohttp wire and the simulator's are the two there are."""

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once and return the answer, whatever its status.

        Raises:
            NotSentError: it certainly never left.
            NoReplyError: it may have arrived; no usable answer came back in time.
            DecodeError: a 2xx answer is larger than `request.max_body` bytes.
        """
        ...

    async def aclose(self) -> None:
        """Close for good; requests still waiting fail with one of the errors above."""
        ...


def decode_reply(call: Call, reply: Reply, secrets: Secrets = _NONE) -> Json:
    """What `reply` means: the decoded body of a 2xx (None where the call has none), or the error, raised.

    Args:
        call: the request.
        reply: the reply.
        secrets: texts that no error may repeat.

    Raises:
        ReplyError: any other status, as the subclass that says what it means; and a 2xx to a POST in which
            the service states a refusal that it otherwise sends with 400.
        DecodeError: a reply that is not in the service's format.
    """
    if not 200 <= reply.status < 300:
        raise refusal(call, reply, secrets)
    if call.method not in ("GET", "POST"):
        # PUT and DELETE answer 204 without a body (contract 1). A body is a portal's or a proxy's.
        if reply.body.strip():
            raise DecodeError("a success with a body where the service sends none", call=str(call))
        return None
    value = decode(call, reply)
    if call.method == "POST" and type(value) is dict and type(value.get("detail")) is str:
        stated = refusal(call, attrs.evolve(reply, status=400), secrets)
        if isinstance(stated, RefusedError) and type(stated) is not RefusedError:
            stated.status = reply.status
            del value  # no traceback with locals shows what the service repeats
            raise stated
    return value


def refusal(
    call: Call, reply: Reply, secrets: Collection[str] = (), service_time: datetime | None = None
) -> ReplyError | DecodeError:
    """The error that a reply other than 2xx is; see `refusals`.

    Args:
        call: the request; secrets in its body are starred out of the service's words.
        reply: the reply.
        secrets: further texts that no error may repeat.
        service_time: time at the service, as in `refusals.retry_after`.
    """
    hidden = (*secrets, *redaction.secrets_in(call.body))
    error = refusals.refusal(
        reply.status, reply.headers, reply.body, call=str(call), hidden=hidden, service_time=service_time
    )
    if has_service_format(reply):
        return error
    message = f"HTTP {reply.status} without the service's JSON, so a gateway's: {error.detail}"
    return DecodeError(message, call=str(call), status=reply.status)


_OVERLOAD: Final = frozenset({408, 425, 429})
"""4xx statuses that mean the same from a gateway as from the service."""


def has_service_format(reply: Reply) -> bool:
    """Whether an error reply is the service's own, so that its status may be given a meaning.

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
    """The JSON value in the body of `reply`, the answer to `call`.

    Raises:
        DecodeError: it is not JSON: empty, HTML, NaN, bad UTF-8, or nested beyond reason.
    """
    if _quick_decode is not None:
        try:
            return _quick_decode(reply.body)
        except ValueError:
            pass  # the other one says why, or takes it: both shall accept the same
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
    # Raised out here, because the errors above hold the whole body, and bodies hold secrets.
    raise DecodeError(f"the body ({len(reply.body)} bytes) is {problem}", call=str(call) if call else None)


def decode_rows(call: Call, reply: Reply) -> Iterator[Json]:
    """The elements of the JSON array in the body of `reply`, each decoded when it is asked for.

    A list of 10,000 instances takes longer to decode than an event loop should be held up.

    Raises:
        DecodeError: it is no array, or not JSON; what came before the fault has been given.
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
        del text  # the error below is raised here, and its traceback should not show all of it
        raise DecodeError(f"the body ({len(reply.body)} bytes) is no JSON array", call=str(call))


_OPENING: Final = re.compile(r"\s*\[\s*(\]?)\s*")
_BETWEEN: Final = re.compile(r"\s*(,(?!\s*\])|\])\s*")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_LENIENT = json.JSONDecoder(parse_constant=_no_constant, strict=False)  # control characters in texts


def _find_quick_decode() -> Callable[[bytes], Json] | None:
    try:
        import orjson  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # it comes with the extra `speed`
        return None
    decode_quickly: Callable[[bytes], Json] = orjson.loads
    return decode_quickly


_quick_decode = _find_quick_decode()
