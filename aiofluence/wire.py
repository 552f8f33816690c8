"""The aiohttp wire: one request, sent once, answered by status, headers and a bounded body.

The only place that knows aiohttp, and the border at which its errors become ours. It neither
retries nor waits its turn: that is `Transport`'s and the gate's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import aiohttp
import attrs
from yarl import URL

from .errors import DecodeError, NoReplyError, NotSentError, WireError
from .protocol import Reply, Request

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
        self._closed = False

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once; see `Wire.send`.

        Raises:
            NotSentError: it certainly never left.
            NoReplyError: it may have arrived; no usable answer came back in time.
            DecodeError: a 2xx answer is larger than `request.max_body` bytes.
        """
        if self._closed:
            raise _closed(_Progress())
        progress = _Progress()
        cancelling = _cancelling()
        try:
            return await self._exchange(request, progress)
        except (aiohttp.ClientError, OSError, _LostError, ValueError) as error:
            failure = _translate(error, progress)
        except asyncio.CancelledError:
            # aiohttp gives requests it drops while closing a bare CancelledError; a real one is counted.
            if _cancelling() > cancelling or not self._is_closed():
                raise
            failure = _closed(progress)
        # Raised out here: aiohttp's errors, and the frames they hold, print every header, the key too.
        raise failure

    async def aclose(self) -> None:
        """Close the pool; requests still waiting fail with NotSentError or NoReplyError."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _is_closed(self) -> bool:
        return self._closed

    async def _exchange(self, request: Request, progress: _Progress) -> Reply:
        session = self._session or self._open()
        url = URL(self._origin + request.path, encoded=True)
        async with session.request(
            request.method,
            url.with_query(request.query) if request.query else url,
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,  # a redirect would carry key and body to another host
            timeout=aiohttp.ClientTimeout(total=request.timeout.total, connect=request.timeout.connect),
            trace_request_ctx=progress,
        ) as response:
            progress.phase = "head"
            body = await _read(response, request.max_body)
            return Reply(response.status, response.headers, body)

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
            middlewares=(_never_twice,),
            trace_configs=[_phases(), *self._trace_configs],
        )
        return self._session


@attrs.define
class _Progress:
    """How far one attempt got: `new`, `connected`, `sent`, `head`."""

    phase: str = "new"


class _LostError(Exception):
    """The connection was lost; unlike aiohttp's own two errors it makes aiohttp send nothing again."""


async def _never_twice(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp repeats GET, PUT and DELETE on its own when the connection is lost: not here."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        lost = _LostError(_text(error))
    raise lost


def _phases() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    def mark(phase: str) -> Any:
        async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
            context.trace_request_ctx.phase = phase

        return note

    trace.on_connection_create_end.append(mark("connected"))
    trace.on_connection_reuseconn.append(mark("connected"))
    trace.on_request_headers_sent.append(mark("sent"))
    return trace


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes:
    """The body, as it streams in, never more of it than the cap; over it, the connection is dropped."""
    good = 200 <= response.status < 300
    limit = cap if good else _ERROR_BODY
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > limit:
            response.close()
            if good:
                raise DecodeError(f"the body is larger than {cap} bytes", call=None)
            chunks.append(chunk[: limit - size])
            break
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _translate(error: Exception, progress: _Progress) -> WireError:
    """What a foreign error means to us: how far the attempt had come decides, not the error's type."""
    if progress.phase == "new":
        certificate = isinstance(
            error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch
        )
        return NotSentError(_text(error), permanent=certificate)
    return NoReplyError(f"{_text(error)} ({progress.phase})", phase=progress.phase)


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


def _closed(progress: _Progress) -> WireError:
    if progress.phase == "new":
        return NotSentError("the session is closed", permanent=True)
    return NoReplyError("the session was closed before the answer came", phase=progress.phase)


def _cancelling() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
