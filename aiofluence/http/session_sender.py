"""The slower sender, through aiohttp's `ClientSession`, which supports traces and proxies.

The wire uses it with `trace_configs`, with `trust_env`, with a tracer of all sessions, and with an untested
version of aiohttp. Otherwise the wire avoids it, because it costs half as much again. It translates no error
and reads no body: the wire does both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TypeAlias

import aiohttp
from yarl import URL

from .in_flight import InFlightRequest
from .messages import Request

Head: TypeAlias = tuple[
    int, Mapping[str, str], aiohttp.StreamReader, aiohttp.ClientResponse | aiohttp.connector.Connection
]
"""Status, headers, the stream of the body, and the object to release after the body or to close before."""


class LostError(Exception):
    """A connection lost to the error in `args`. aiohttp repeats requests after that error, not after this."""


class SessionSender:
    """Sender over `connector` through an `aiohttp.ClientSession`, which leaves the connector open.

    Attributes:
        wanted: True if traces or proxies are possible. Counts foreign traces too, such as those that
            OpenTelemetry's `instrument()` adds to every session.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        trace_configs: Sequence[aiohttp.TraceConfig],
        *,
        trust_env: bool,
    ) -> None:
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=trust_env,
            trace_configs=[_note_connections(), *trace_configs],
        )
        self.wanted: bool = trust_env or len(self._session.trace_configs) > 1

    def drop(self) -> None:
        """Drop the unused session. The connector stays open."""
        self._session.detach()

    async def ask(
        self,
        request: Request,
        url: URL,
        timeout: aiohttp.ClientTimeout,
        flight: InFlightRequest,
    ) -> Head:
        """Send `request` once, wait for the head of the reply, and update the phase of `flight`."""

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

        response = await self._session.request(
            request.method,
            url,
            data=request.body or None,
            allow_redirects=False,  # a redirect would send key and body to another host
            timeout=timeout,
            trace_request_ctx=flight,
            middlewares=(once,),
        )
        return response.status, response.headers, response.content, response


def _note_connections() -> aiohttp.TraceConfig:
    async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.phase = "connected"

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(note)
    trace.on_connection_reuseconn.append(note)
    return trace
