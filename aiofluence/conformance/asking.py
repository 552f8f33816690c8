"""Single raw requests in a session: exact statuses, headers and bodies, at the session's pace.

A request is repeated after a fault of the way, because none of them can create an instance. Deploys that may
succeed go through `Session`, with custody and journal.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import FluenceError, NoReplyError, NotSentError
from ..http.dates import retry_after
from ..http.messages import Call, MiB, Priority, Reply, Request
from ..models.instances import InstanceRef
from ..models.values import Kind
from ..session import Session

NO_PLAN: Final = "00000000-0000-4000-8000-000000000000"
"""Plan id that no service has. A deploy with this id is refused, so it costs nothing."""
NO_INSTANCE: Final = "00000000-0000-4000-8000-000000000001"
_TRIES: Final = 8
_LONGEST_PAUSE: Final = 60.0

PATHS: Final[Mapping[Kind, str]] = {
    Kind.CONTAINER: "/gpu/instances/",
    Kind.VM: "/gpu/instances/vms",
    Kind.BAREMETAL: "/gpu/instances/baremetal",
}


class Asker:
    """Sender of the raw requests of one run.

    Attributes:
        sent: number of requests so far.
        account: texts that the account has shown, which no file may contain.
    """

    def __init__(self, session: Session) -> None:
        transport = session._transport
        self.session = session
        self.sent: int = 0
        self.headers: Final[Mapping[str, str]] = transport.headers
        self.account: set[str] = {transport.headers.credential}
        self._transport = transport

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        tries: int = _TRIES,
    ) -> Reply:
        """Send one request, and again after a fault of the way: 5xx, 429, or no reply.

        Args:
            method: HTTP method.
            path: path, sent unchanged.
            query: parameters.
            body: JSON, or bytes.
            headers: headers in place of the session's.
            tries: maximum number of attempts. With 1, a 429 and a 5xx are returned at once.

        Raises:
            WireError: no attempt was answered.
        """
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        transport = self._transport
        request = Request(
            method,
            path,
            query or {},
            transport.headers if headers is None else headers,
            content,
            transport.timeout,
            64 * MiB,
        )
        pause = 0.5
        while True:
            tries -= 1
            reply = None
            await transport.limiter.acquire(Priority.AWAITED)
            try:
                self.sent += 1
                reply = await transport.wire.send(request)
            except (NotSentError, NoReplyError):
                if tries <= 0:
                    raise
            finally:
                transport.limiter.release()
            if reply is not None:
                if transport.on_reply is not None:
                    transport.on_reply(Call(method, path), reply)
                transport.clock.note(reply.headers.get("Date"), asyncio.get_running_loop().time())
                if tries <= 0 or not (reply.status == 429 or reply.status >= 500):
                    return reply
                pause = max(pause, retry_after(reply.headers, None) or 0.0)
            await asyncio.sleep(min(pause, _LONGEST_PAUSE))
            pause *= 2

    async def change(self, method: str, path: str, *, body: Any = None) -> Reply | None:
        """Send a request that changes an instance. Return None if a lost reply makes its outcome unclear.

        The first attempt may have taken effect although its reply was lost. The next is then refused.

        Raises:
            WireError: no attempt was answered.
        """
        sent = self.sent
        reply = await self.ask(method, path, body=body)
        return None if reply.status == 400 and self.sent > sent + 1 else reply

    async def fetch(self, path: str, **query: str) -> Any:
        """Return the JSON of a GET that concerns the account, and remember its texts.

        Raises:
            FluenceError: no attempt succeeded.
            UnfitError: the reply is no JSON, or has another status than 200.
        """
        reply = await self.ask("GET", path, query=query)
        value = body_of(reply)
        if reply.status != 200 or value is None:
            raise UnfitError(f"GET of {len(reply.body)} bytes was answered with {reply.status}")
        self.remember(value)
        return value

    def remember(self, value: Any) -> None:
        """Remember the texts and amounts of an account's document."""
        if isinstance(value, str):
            if value not in _VOCABULARY:
                self.account.add(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name not in _PUBLIC:
                    self.remember(inner)
        elif isinstance(value, list):
            for inner in value:
                self.remember(inner)
        elif type(value) is float:
            self.account.add(str(value))

    async def refused_deploy(self, kind: Kind, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a deploy that the service must refuse, because its plan does not exist or is missing.

        If the service accepts it all the same, custody ends the instance.
        """
        sent = json.loads(body) if isinstance(body, bytes) else body
        assert not isinstance(sent, dict) or sent.get("plan_id", NO_PLAN) == NO_PLAN
        reply = await self.ask("POST", PATHS[kind], body=body, headers=headers)
        id = (body_of(reply) or {}).get("instance_id") if 200 <= reply.status < 300 else None
        if isinstance(id, str):
            custodian = self.session._runtime.lifecycle.custodian
            custodian.take(InstanceRef(kind, id, str(sent.get("name"))))
        return reply


class UnfitError(Exception):
    """A reply from which a probe can conclude nothing."""


NO_RESULT: Final = (FluenceError, UnfitError)
"""Errors of requests that bring no result."""


def body_of(reply: Reply) -> Any:
    """Return the JSON of a reply; None if it has none."""
    try:
        return json.loads(reply.body.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def detail_of(reply: Reply) -> Any:
    """Return `detail` of a refusal; None if it has none."""
    value = body_of(reply)
    return value.get("detail") if isinstance(value, dict) else None


_PUBLIC: Final = frozenset({"resources", "availability", "protocol", "instance_status", "container_status"})
"""Fields whose values are the service's own and the same for every account."""
_VOCABULARY: Final = frozenset(
    [
        "INITIALIZED",
        "ACTIVE",
        "FAILED",
        "ENDED",
        "STARTED",
        "NOT_STARTED",
        "vm",
        "baremetal",
        "tcp",
        "udp",
        "http",
        "gpu",
        "read",
        "write",
    ]
)
