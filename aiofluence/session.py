"""The session: everything a program needs, around one connection pool and one rate limit.

Composes the floors below and owns their tasks and lifetimes; the work itself is done there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

import attrs

from .batch.many import LaunchesMany
from .config import find_origin, request_headers, turn_on_log, user_agent
from .errors import ConfigError
from .following import FollowsOutput
from .http.aiohttp_wire import AiohttpWire, TraceConfig
from .http.codec import encode
from .http.messages import Call, Replay, Reply, Timeout, Wire, safe_method, safe_path
from .http.rate_limit import RateLimit
from .http.redis_rate_limit import RedisRate
from .http.retry import Retry
from .http.transport import OnReply, Transport
from .lifecycle.instance import Launcher
from .lifecycle.journal import Journal
from .lifecycle.one import LaunchesOne
from .lifecycle.policy import DeployPolicy
from .models.specs import BareMetalSpec, VMSpec
from .models.values import Kind
from .polling.schedule import Poll
from .recovery import SurvivesCrashes
from .resources.account import Account
from .resources.containers import Containers
from .resources.instances import Instances
from .resources.machines import Machines
from .resources.plans import Images, Plans
from .runtime import House


class Session(LaunchesOne, LaunchesMany, FollowsOutput, SurvivesCrashes):
    """An account at the Fluence GPU Cloud. Use it as `async with Session() as fluence:`.

    One session per program and key: its calls share one connection pool and one rate limit, and it is the
    custodian of every instance whose caller was cancelled.

    Attributes:
        plans: what can be rented.
        images: the service's ready-made container images.
        account: balance, and permissions of the key.
        containers: container endpoints.
        vms: VM endpoints.
        baremetal: bare-metal endpoints.

    Args:
        api_key: else the variable `FLUENCE_API_KEY`, else the file that `FLUENCE_API_KEY_FILE` names. Without
            any of them the access token in `FLUENCE_ACCESS_TOKEN` takes its place.
        base_url: else `FLUENCE_BASE_URL`, else `https://api.fluence.dev`; with or without `/gpu` at the end.
        rate: how fast this session may send, or a `RedisRate` that it shares with others.
        max_in_flight: how many requests may be under way at once.
        timeout: for one attempt of one request: a `Timeout`, or seconds in all.
        retry: how often a call is tried.
        poll: how often a wait looks.
        deploy: how a deploy whose outcome is unclear is cleared up.
        journal: a file in which every deploy is noted before it is sent; made with mode 0600.
        close_timeout: seconds that leaving the session may take at most to see abandoned instances gone. The
            default covers a slow provisioning and a DELETE that is refused for 20 minutes after it. Without
            any progress for 300 s, the session closes earlier.
        wire: what carries requests instead of aiohttp, such as the simulator's in-process wire.
        trace_configs: aiohttp's, passed through untouched.
        on_reply: called with each call and its raw `Reply`, refusals too, before it is judged; what it
            raises is logged.
        user_agent_suffix: put behind `aiofluence/<version>`, such as your program's name and version.
        allow_insecure: let a plain-http `base_url` have the key although it is not this machine.
        trust_env: let aiohttp read proxies from the environment.

    Raises:
        ConfigError: no key, or an argument that makes no sense.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        rate: RateLimit | RedisRate | None = None,
        max_in_flight: int = 32,
        timeout: Timeout | float | None = None,
        retry: Retry | None = None,
        poll: Poll | None = None,
        deploy: DeployPolicy | None = None,
        journal: str | os.PathLike[str] | None = None,
        close_timeout: float = 2700.0,
        wire: Wire | None = None,
        trace_configs: Sequence[TraceConfig] = (),
        on_reply: OnReply | None = None,
        user_agent_suffix: str = "",
        allow_insecure: bool = False,
        trust_env: bool = False,
    ) -> None:
        try:
            headers = request_headers(api_key)
        finally:
            del api_key  # from here on it exists in the headers alone, which no repr shows
        headers["User-Agent"] = user_agent(user_agent_suffix)
        if not (max_in_flight >= 1 and close_timeout >= 0):
            raise ConfigError("a session needs max_in_flight >= 1 and close_timeout >= 0")
        origin = find_origin(base_url, allow_insecure=allow_insecure)
        turn_on_log()
        transport = Transport(
            wire=wire or AiohttpWire(origin, trace_configs=trace_configs, trust_env=trust_env),
            gate=(rate or RateLimit()).gate(max_in_flight),
            headers=headers,
            timeout=Timeout.of(timeout),
            retry=retry or Retry(),
            on_reply=on_reply,
            pace=(poll or Poll()).pace,
        )
        # The instances' resources need the deployer, which needs the waits, which need the resources.
        resources: dict[Kind, Instances[Any, Any, Any]] = {}
        book = Journal(journal, origin, headers.credential)
        self._house = House.build(
            origin, transport, resources, poll or Poll(), deploy or DeployPolicy(), book, close_timeout
        )
        self._furnish(transport)
        resources.update({kind: self._launcher.resources[kind] for kind in Kind})

    def _furnish(self, transport: Transport) -> None:
        """Everything whose calls go through `transport`; what it is built on stands in the house."""
        house = self._house
        self.plans: Plans = Plans(transport)
        self.images: Images = Images(transport)
        self.account: Account = Account(transport)
        self.containers: Containers = Containers(transport, house.deployer)
        self.vms: Machines[VMSpec] = Machines(transport, house.deployer, Kind.VM)
        self.baremetal: Machines[BareMetalSpec] = Machines(transport, house.deployer, Kind.BAREMETAL)
        self._transport = transport
        self._launcher = Launcher(
            {resource.kind: resource for resource in (self.containers, self.vms, self.baremetal)},
            house.deployer,
            house.waiter,
            house.custodian,
            house.home,
            transport.clock,
        )

    def with_options(
        self,
        *,
        timeout: Timeout | float | None = None,
        retry: Retry | None = None,
        on_reply: OnReply | None = None,
    ) -> Session:
        """This session, with other options for the calls made through what is returned.

        Pool, rate limit, custody and lifetime stay the session's own: the copy needs no `async with`. Waits
        go on looking as the session looks.

        Args:
            timeout: for one attempt of one request: a `Timeout`, or seconds in all. None leaves it.
            retry: how often a call is tried. None leaves it.
            on_reply: called with each call and its raw `Reply` (status, headers, body), refusals too,
                before it is judged. None leaves it.
        """
        changes: dict[str, Any] = {"retry": retry, "on_reply": on_reply}
        if timeout is not None:
            changes["timeout"] = Timeout.of(timeout)
        view = type(self).__new__(type(self))
        view._house = self._house
        view._furnish(attrs.evolve(self._transport, **{k: v for k, v in changes.items() if v is not None}))
        return view

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        json: Any = None,
    ) -> Reply:
        """Any request to the service, for what has no method here: gate, retries and errors as everywhere.

        A GET is retried as every GET is; anything else is sent once, and again only if it never left.

        Args:
            method: such as `"GET"`.
            path: such as `"/gpu/plans/"`.
            query: values are turned into text; those that are None are left out.
            json: the body, encoded as JSON; None for none.

        Raises:
            ConfigError: that is no method, or the path is not one of the service's.
            FluenceError: as in `aiofluence.errors`.
        """
        method = safe_method(method)
        replay = Replay.ALWAYS if method == "GET" else Replay.NEVER
        body = b"" if json is None else encode(json)
        del json  # so that no traceback with locals shows what is in it
        if body is None:
            raise ConfigError("this body cannot be written as JSON")
        call = Call(method, safe_path(path), replay).to(body=body, query=query)
        del body
        return await self._transport.exchange(call)

    async def __aenter__(self) -> Self:
        await self._house.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until what was abandoned is gone, at most `close_timeout` seconds, then close.

        Being cancelled, again even, does not cut it short; a second Ctrl-C does.

        Raises:
            CustodyError: something may still be running, and billing.
        """
        await self._house.close()

    def __repr__(self) -> str:
        house = getattr(self, "_house", None)  # a debugger may ask while it is still being built
        return f"<Session {house.origin} {house.state}>" if house else "<Session>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session holds a key and sockets; make one where you need it")
