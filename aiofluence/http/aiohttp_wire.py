"""The aiohttp wire: one request, sent once; its reply is status, headers and a bounded body.

This module translates aiohttp's errors into the library's. It uses aiohttp's pool, writer and parser. For
traces, proxies and untested versions of aiohttp, it uses `ClientSession`, which costs as much as all three.
Retries and the rate limiter belong to `Transport`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import aiohttp
import attrs
from aiohttp.http import HttpProcessingError, StreamWriter
from multidict import CIMultiDict
from yarl import URL

from ..errors import DecodeError, NoReplyError, NotSentError, WireError
from .messages import Reply, Request, Timeout

TraceConfig: TypeAlias = aiohttp.TraceConfig
"""aiohttp's class, for `Session(trace_configs=...)`."""

_TRIED = "3.14."
"""Version of aiohttp whose pool, writer and parser were tested together. With any other version, the wire
uses `ClientSession`, which is slower and as safe."""
_ERROR_BODY = 64 * 1024
"""Bytes of a refusal's body to read: its status and first lines contain its meaning."""
_INTERIM = frozenset(range(100, 200)) - {101}
"""Interim statuses, which announce a final status."""


class AiohttpWire:
    """Wire to one origin, with its own connection pool.

    Args:
        origin: scheme, host and port, such as `https://api.fluence.dev`.
        trace_configs: trace configs of aiohttp, passed through, e.g. for OpenTelemetry's instrumentation.
        ssl_context: replacement for aiohttp's default, e.g. for a private certificate authority.
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
        self._connector: aiohttp.TCPConnector | None = None
        self._session: aiohttp.ClientSession | None = None
        self._connect_timeout = _only_connecting(Timeout().connect)
        self._given: dict[str, str] | None = None
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._clock = TimeoutScheduler()
        self._closed = False

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once; see `Wire.send`."""
        task = asyncio.current_task()
        assert task is not None  # aiohttp requires a task as well
        flight = InFlightRequest(self._headers_for(request), task)
        if self._closed:
            raise _closed(flight)
        cancelling = task.cancelling()
        self._clock.start(flight, request.timeout.total)
        try:
            return await self._exchange(request, flight)
        except _FOREIGN as error:
            failure = _translate(error, flight)
        except asyncio.CancelledError:
            if task.cancelling() > cancelling + flight.late:
                raise
            # On close, aiohttp raises CancelledError in dropped requests. `cancelling` counts only real ones.
            if not flight.late and not self._is_closed():
                raise
            failure = _translate(TimeoutError(), flight) if flight.late else _closed(flight)
        finally:
            self._clock.stop(flight)
        # Raised outside `except`: aiohttp's errors and their frames show every header, including the key.
        raise failure

    async def aclose(self) -> None:
        """Close the pool. Pending requests fail with NotSentError or NoReplyError."""
        self._closed = True
        self._clock.close()
        if self._connector is not None:
            await self._connector.close()

    def _is_closed(self) -> bool:
        return self._closed

    async def _exchange(self, request: Request, flight: InFlightRequest) -> Reply:
        if self._connect_timeout.connect != request.timeout.connect:
            self._connect_timeout = _only_connecting(request.timeout.connect)
        connector = self._connector or self._open()
        if self._session is None:
            status, headers, content, held = await self._ask(connector, request, flight)
        else:
            status, headers, content, held = await self._ask_session(self._session, request, flight)
        try:
            body = await content.readany()
            if not content.at_eof() or len(body) > min(request.max_body, _ERROR_BODY):
                # Few bodies arrive in more than one piece.
                body = await _read_on(content, body, request.max_body, good=200 <= status < 300)
        except BaseException:
            held.close()
            raise
        held.release()  # the pool drops a connection whose body was not read to its end
        return Reply(status, headers, body)

    async def _ask(self, connector: aiohttp.TCPConnector, request: Request, flight: InFlightRequest) -> Head:
        """Write the request once and wait for the head of the reply, like `_ask_session`."""
        connection = await connector.connect(self._address, [], self._connect_timeout)
        try:
            protocol = connection.protocol
            assert protocol is not None  # the connection is new
            protocol.set_response_params(skip_payload=request.method == "HEAD", read_until_eof=True)
            writer = StreamWriter(protocol, self._loop)
            await writer.write_headers(f"{request.method} {_target(request)} HTTP/1.1", flight.headers)
            flight.phase = "sent"  # maybe only in part; before this line, certainly not at all
            if request.body:
                await writer.write(request.body, drain=False)  # a refusal can then be read at once
            writer.set_eof()
            message, content = await protocol.read()
            while message.code in _INTERIM:
                message, content = await protocol.read()
            transport = connection.transport
            if request.body and transport is not None and transport.get_write_buffer_size():
                protocol.force_close()  # the reply came before the whole body was sent: no reuse
        except BaseException:
            connection.close()
            raise
        flight.phase = "head"
        return message.code, message.headers, content, connection

    async def _ask_session(
        self, session: aiohttp.ClientSession, request: Request, flight: InFlightRequest
    ) -> Head:
        """Send the request once through `session`, and wait for the head of the reply."""

        async def once(
            sent: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            sent.headers.update(flight.headers)  # not passed below, where a traceback would show them
            # aiohttp itself would repeat GET, PUT and DELETE after a lost connection. LostError prevents it.
            try:
                response = await handler(sent)
            except BaseException as error:
                if vars(sent).get("response") is not None:  # set once the connection has the whole request
                    flight.phase = "sent"
                if isinstance(error, aiohttp.ClientConnectorError) or not isinstance(
                    error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError
                ):
                    raise
                lost = LostError(error)
            else:
                flight.phase = "head"
                return response
            raise lost

        response = await session.request(
            request.method,
            URL(self._origin + _target(request), encoded=True),
            data=request.body or None,
            allow_redirects=False,  # a redirect would send key and body to another host
            timeout=self._connect_timeout,
            trace_request_ctx=flight,
            middlewares=(once,),
        )
        return response.status, response.headers, response.content, response

    def _open(self) -> aiohttp.TCPConnector:
        self._loop = asyncio.get_running_loop()
        self._connector = _Connector(
            limit=0,  # the rate limiter limits; aiohttp's own limit can lose a wake-up on cancellation
            resolver=aiohttp.ThreadedResolver(),  # aiohttp would use c-ares if aiodns is installed
            ssl=True if self._ssl is None else self._ssl,
        )
        # The pool needs a request only for its origin.
        self._address = aiohttp.ClientRequest("GET", URL(self._origin), loop=self._loop)
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            trace_configs=[_note_connections(), *self._trace_configs],
        )
        # Counts foreign traces too, such as those that OpenTelemetry's `instrument()` adds to every session.
        is_traced = len(session.trace_configs) > 1
        if is_traced or self._trust_env or not aiohttp.__version__.startswith(_TRIED):
            self._session = session
        else:
            session.detach()
        return self._connector

    def _headers_for(self, request: Request) -> CIMultiDict[str]:
        """Return the headers to send. They are the same for most requests of a session, so they are kept."""
        if self._given != request.headers:
            self._given = dict(request.headers)
            host = URL(self._origin).host_port_subcomponent or ""
            self._headers = CIMultiDict({"Host": host, "Accept-Encoding": "gzip, deflate"} | self._given)
        if not request.body and request.method in ("GET", "HEAD"):
            return self._headers
        headers = self._headers.copy()
        headers["Content-Length"] = str(len(request.body))
        return headers


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool without connections that received bytes while idle.

    An example is a 408 that a proxy sends on an idle connection. aiohttp would take the 408 for the reply to
    the next request, and that reply for the reply to the request after it, and so on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._process = os.getpid()

    def __del__(self, *given: Any) -> None:
        # A forked child shares the parent's sockets and epoll. aiohttp closes a garbage-collected pool. In
        # the child, that would end the parent's connections.
        if os.getpid() == self._process:
            super().__del__(*given)

    async def connect(self, *asked: Any, **more: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*asked, **more)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()


def _target(request: Request) -> str:
    """Return path and query as the request line contains them."""
    if not request.query:
        return request.path
    return str(URL(request.path, encoded=True).with_query(request.query))


def _only_connecting(seconds: float) -> aiohttp.ClientTimeout:
    # `TimeoutScheduler` limits the total time.
    return aiohttp.ClientTimeout(total=None, connect=seconds)


async def _read_on(content: aiohttp.StreamReader, body: bytes, cap: int, *, good: bool) -> bytes:
    """Return `body` and the rest of the stream, but never more than the cap."""
    limit = cap if good else _ERROR_BODY
    chunks: list[bytes] = []
    size = 0
    while body or not content.at_eof():
        size += len(body)
        chunks.append(body)
        if size > limit:
            if good:
                raise DecodeError(f"the body is larger than {cap} bytes", call=None)
            return b"".join(chunks)[:limit]
        body = await content.readany()
    return b"".join(chunks)


def _translate(error: Exception, flight: InFlightRequest) -> WireError:
    """Translate a foreign error. The phase of the request decides, not the type of the error."""
    if flight.phase == "new":
        certificate = isinstance(
            error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch
        )
        return NotSentError(_text(error), permanent=certificate)
    return NoReplyError(f"{_text(error)} ({flight.phase})", phase=flight.phase)


def _text(error: BaseException) -> str:
    """Describe an error without `str(error)` of any object that holds headers or bytes of a body."""
    name = type(error).__name__
    if isinstance(error, LostError):
        return _text(error.args[0])
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


def _closed(flight: InFlightRequest) -> WireError:
    if flight.phase == "new":
        return NotSentError("the session is closed", permanent=True)
    return NoReplyError("the session was closed before the answer came", phase=flight.phase)


@attrs.define(eq=False)
class InFlightRequest:
    """A request in flight, and the task that waits for it. No repr shows its contents, such as the key."""

    headers: CIMultiDict[str] = attrs.field(repr=False)
    task: asyncio.Task[Any] = attrs.field(repr=False)
    deadline: float = 0.0
    late: bool = False
    phase: str = "new"
    """`new`, `connected` (reported only by aiohttp's session), `sent` or `head`."""


class TimeoutScheduler:
    """Timeouts of all requests in flight, as from `asyncio.timeout`, but with a single timer.

    A timer for each request, set and rarely needed, would be a tenth of the cost of a call.
    """

    def __init__(self) -> None:
        self._running: set[InFlightRequest] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, flight: InFlightRequest, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        flight.deadline = loop.time() + seconds
        self._running.add(flight)
        if self._timer is None or flight.deadline < self._timer.when():
            self._set(loop, flight.deadline)

    def stop(self, flight: InFlightRequest) -> None:
        self._running.discard(flight)
        if flight.late:
            flight.task.uncancel()

    def close(self) -> None:
        """Leave no timer behind in the loop, unless requests are still in flight."""
        if self._timer is not None and not self._running:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._cancel_late, loop)

    def _cancel_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + 1e-3  # a timer may fire early by its clock's resolution
        for flight in self._running:
            if flight.deadline <= now and not flight.late:
                flight.late = True
                flight.task.cancel()
        if waiting := [flight.deadline for flight in self._running if not flight.late]:
            self._set(loop, min(waiting))


Head: TypeAlias = tuple[
    int, Mapping[str, str], aiohttp.StreamReader, aiohttp.ClientResponse | aiohttp.connector.Connection
]
"""Status, headers, the stream of the body, and the object to release after the body or to close before."""


class LostError(Exception):
    """A connection lost to the error in `args`. aiohttp repeats requests after that error, not after this."""


def _note_connections() -> aiohttp.TraceConfig:
    async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.phase = "connected"

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(note)
    trace.on_connection_reuseconn.append(note)
    return trace


_FOREIGN = (aiohttp.ClientError, aiohttp.EofStream, HttpProcessingError, OSError, LostError, ValueError)
"""All exceptions that the layers below may raise."""
