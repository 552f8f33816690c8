"""The aiohttp wire: one request, sent once, answered by status, headers and a bounded body.

The only place that knows aiohttp, and the border at which its errors become ours. It neither
retries nor waits its turn: that is `Transport`'s and the gate's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import aiohttp
import attrs
from multidict import CIMultiDict
from yarl import URL

from .errors import DecodeError, NoReplyError, NotSentError, WireError
from .protocol import Reply, Request, Timeout

TraceConfig: TypeAlias = aiohttp.TraceConfig
"""aiohttp's own, for `Session(trace_configs=...)`."""

_ERROR_BODY = 64 * 1024
"""Of a refusal only the beginning is read: what it means stands in its status and first lines."""


class AiohttpWire:
    """Sends to one origin over a connection pool of its own.

    Args:
        origin: scheme, host and port, such as `https://api.fluence.dev`.
        trace_configs: aiohttp's own, passed through, so that e.g. OpenTelemetry's instrumentation works.
        ssl_context: other than aiohttp's default, e.g. for a private certificate authority.
        trust_env: let aiohttp read proxies and `.netrc` from the environment.
    """

    def __init__(
        self,
        origin: str,
        *,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = False,
    ) -> None:
        self._origin = origin
        self._trace_configs = trace_configs
        self._ssl = ssl_context
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._connect_timeout = _only_connecting(Timeout().connect)
        self._given: dict[str, str] = {}
        self._headers = CIMultiDict({"Accept-Encoding": "gzip, deflate"})
        self._clock = _Clock()
        self._closed = False

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once; see `Wire.send`.

        Raises:
            NotSentError: it certainly never left.
            NoReplyError: it may have arrived; no usable answer came back in time.
            DecodeError: a 2xx answer is larger than `request.max_body` bytes.
        """
        task = asyncio.current_task()
        assert task is not None  # aiohttp, too, works in tasks alone
        attempt = _Attempt(self._headers_for(request), task)
        if self._closed:
            raise _closed(attempt)
        cancelling = task.cancelling()
        self._clock.start(attempt, request.timeout.total)
        try:
            return await self._exchange(request, attempt)
        except (aiohttp.ClientError, OSError, _LostError, ValueError) as error:
            failure = _translate(error, attempt)
        except asyncio.CancelledError:
            if task.cancelling() > cancelling + attempt.late:
                raise
            # aiohttp gives requests it drops while closing a bare CancelledError; a real one is counted.
            if not attempt.late and not self._is_closed():
                raise
            failure = _translate(TimeoutError(), attempt) if attempt.late else _closed(attempt)
        finally:
            self._clock.stop(attempt)
        # Raised out here: aiohttp's errors, and the frames they hold, print every header, the key too.
        raise failure

    async def aclose(self) -> None:
        """Close the pool; requests still waiting fail with NotSentError or NoReplyError."""
        self._closed = True
        self._clock.close()
        if self._session is not None:
            await self._session.close()

    def _is_closed(self) -> bool:
        return self._closed

    def _headers_for(self, request: Request) -> CIMultiDict[str]:
        """The request's headers as aiohttp wants them; a session's requests all have the same."""
        if self._given != request.headers:
            self._given = dict(request.headers)
            self._headers = CIMultiDict({"Accept-Encoding": "gzip, deflate"} | self._given)
        return self._headers

    async def _exchange(self, request: Request, attempt: _Attempt) -> Reply:
        session = self._session or self._open()
        url = URL(self._origin + request.path, encoded=True)
        if self._connect_timeout.connect != request.timeout.connect:
            self._connect_timeout = _only_connecting(request.timeout.connect)
        response = await session.request(
            request.method,
            url.with_query(request.query) if request.query else url,
            data=request.body or None,
            allow_redirects=False,  # a redirect would carry key and body to another host
            timeout=self._connect_timeout,
            trace_request_ctx=attempt,
            middlewares=(attempt.carry,),
        )
        try:
            content = response.content
            body = await content.readany()
            if not content.at_eof() or len(body) > min(request.max_body, _ERROR_BODY):
                body = await _read_on(response, body, request.max_body)  # few do not come in one piece
            return Reply(response.status, response.headers, body)
        except BaseException:
            response.close()
            raise

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # the gate limits; aiohttp's own limit can lose a wake-up when a request is cancelled
            resolver=aiohttp.ThreadedResolver(),  # with aiodns installed, DNS would silently move to c-ares
            ssl=True if self._ssl is None else self._ssl,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            request_class=_ClientRequest,
            trace_configs=[_note_connections(), *self._trace_configs] if self._trace_configs else [],
        )
        return self._session


def _only_connecting(seconds: float) -> aiohttp.ClientTimeout:
    # The time in all is the wire's own: see `_Clock`.
    return aiohttp.ClientTimeout(total=None, connect=seconds)


class _ClientRequest(aiohttp.ClientRequest):
    """Knows how far it got, at no cost to those that arrive."""

    connected = False
    """It had a connection to be sent over."""

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """None: what `_Attempt.carry` adds is all there is. (Were this not called, nothing would break.)"""

    def has_been_sent(self) -> bool:
        """All of it was handed to the connection: that is when aiohttp makes the response object."""
        return vars(self).get("response") is not None

    def send(self, conn: aiohttp.connector.Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        self.connected = True
        return super().send(conn)


class _LostError(Exception):
    """The connection was lost; unlike aiohttp's own two errors it makes aiohttp send nothing again."""


@attrs.define(eq=False)
class _Attempt:
    """One request on its way, as a middleware of aiohttp: gives it its headers, and sees how far it gets.

    Headers given to `session.request` would be merged one by one, in Python; these are added at once.
    """

    headers: CIMultiDict[str] = attrs.field(repr=False)
    task: asyncio.Task[Any] = attrs.field(repr=False)
    deadline: float = 0.0
    late: bool = False
    phase: str = "new"
    """`new`, `connected`, `sent` or `head`."""

    async def carry(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """aiohttp repeats GET, PUT and DELETE on its own when the connection is lost: not here."""
        request.headers.update(self.headers)
        try:
            response = await handler(request)
        except BaseException as error:
            if isinstance(request, _ClientRequest) and request.connected:
                self.phase = "sent" if request.has_been_sent() else "connected"
            if isinstance(error, aiohttp.ClientConnectorError) or not isinstance(
                error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError
            ):
                raise
            lost = _LostError(_text(error))
        else:
            self.phase = "head"
            return response
        raise lost


class _Clock:
    """Cancels attempts that take too long, as `asyncio.timeout` would, but with one timer for all of them.

    A timer each, set and hardly ever needed, would be a tenth of what a call costs.
    """

    def __init__(self) -> None:
        self._running: set[_Attempt] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, attempt: _Attempt, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        attempt.deadline = loop.time() + seconds
        self._running.add(attempt)
        if self._timer is None or attempt.deadline < self._timer.when():
            self._set(loop, attempt.deadline)

    def stop(self, attempt: _Attempt) -> None:
        self._running.discard(attempt)
        if attempt.late:
            attempt.task.uncancel()

    def close(self) -> None:
        """Leave nothing behind in the loop; what still runs is timed to its end."""
        if self._timer is not None and not self._running:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + 1e-3  # a timer may fire early by its clock's resolution
        for attempt in self._running:
            if attempt.deadline <= now and not attempt.late:
                attempt.late = True
                attempt.task.cancel()
        if waiting := [attempt.deadline for attempt in self._running if not attempt.late]:
            self._set(loop, min(waiting))


def _note_connections() -> aiohttp.TraceConfig:
    """For users' traces, which may fail between connecting and sending: nobody else awaits there."""

    async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.phase = "connected"

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(note)
    trace.on_connection_reuseconn.append(note)
    return trace


async def _read_on(response: aiohttp.ClientResponse, body: bytes, cap: int) -> bytes:
    """`body` and the rest, as it streams in, never more than the cap; over it, the connection is dropped."""
    content = response.content
    good = 200 <= response.status < 300
    limit = cap if good else _ERROR_BODY
    chunks: list[bytes] = []
    size = 0
    while body or not content.at_eof():
        size += len(body)
        chunks.append(body)
        if size > limit:
            response.close()
            if good:
                raise DecodeError(f"the body is larger than {cap} bytes", call=None)
            return b"".join(chunks)[:limit]
        body = await content.readany()
    return b"".join(chunks)


def _translate(error: Exception, attempt: _Attempt) -> WireError:
    """What a foreign error means to us: how far the attempt had come decides, not the error's type."""
    if attempt.phase == "new":
        certificate = isinstance(
            error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch
        )
        return NotSentError(_text(error), permanent=certificate)
    return NoReplyError(f"{_text(error)} ({attempt.phase})", phase=attempt.phase)


def _text(error: BaseException) -> str:
    """What happened, without `str(error)` of anything that holds headers or bytes of a body."""
    name = type(error).__name__
    if isinstance(error, _LostError):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {_text(error.os_error)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"certificate of {error.host} refused: {_text(error.certificate_error)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{name}: {getattr(error, 'verify_message', 'no reason given')}"
    if isinstance(error, socket.gaierror):
        return f"DNS: {error.strerror}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(error, TimeoutError) and not error.args:
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    return name


def _closed(attempt: _Attempt) -> WireError:
    if attempt.phase == "new":
        return NotSentError("the session is closed", permanent=True)
    return NoReplyError("the session was closed before the answer came", phase=attempt.phase)
