"""The longer way to the same answer: through aiohttp's own session, which calls traces and knows proxies.

For whoever hands in `trace_configs`, sets `trust_env` or traces every session there is, and for an aiohttp
that the other way was not tried with; for nobody else, since it costs half as much again. Translates no
error and reads no body: that is the wire's.
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
"""Status, headers, the body as it comes, and what is to be released after it or closed before its end."""


class LostError(Exception):
    """The connection was lost to the error in `args`. Unlike for that, aiohttp sends nothing again."""


class SessionSender:
    """Asks over `connector` by way of an `aiohttp.ClientSession`, which leaves the connector open.

    Attributes:
        wanted: somebody watches, or there may be a proxy. Traces count also when they come uninvited, as
            those do that OpenTelemetry's `instrument()` puts into every session.
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
        """It will not be asked; the connector stays as it is."""
        self._session.detach()

    async def ask(
        self,
        request: Request,
        url: URL,
        timeout: aiohttp.ClientTimeout,
        flight: InFlightRequest,
    ) -> Head:
        """Send `request` once and wait for the head of the answer, keeping `flight` up to date."""

        async def once(
            sent: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            sent.headers.update(flight.headers)  # not given below, where a frame would hold and show them
            # aiohttp repeats GET, PUT and DELETE on its own when the connection is lost: not here.
            try:
                response = await handler(sent)
            except BaseException as error:
                if vars(sent).get("response") is not None:  # made when all is handed to the connection
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
            allow_redirects=False,  # a redirect would carry key and body to another host
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
