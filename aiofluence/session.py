"""The session: everything a program needs, around one connection pool and one rate limit.

Composes the floors below and owns their tasks and lifetimes; the work itself is done there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, overload

import attrs

from .batch.launch import Launch
from .batch.options import Fallback, Terms
from .batch.progress import OnProgress
from .batch.report import Report
from .config import find_origin, request_headers, turn_on_log, user_agent
from .errors import ConfigError
from .http.aiohttp_wire import AiohttpWire, TraceConfig
from .http.codec import encode
from .http.messages import Call, Reply, Retryable, Timeout, Wire, safe_method, safe_path
from .http.rate_limit import RateLimit
from .http.redis_rate_limit import RedisRate
from .http.retry import Retry
from .http.transport import OnReply, Transport
from .lifecycle.arguments import (
    adopt_problems,
    on_failure_problems,
    refuse,
    timeout_problems,
    until_problems,
    update_problems,
)
from .lifecycle.custody import Custody
from .lifecycle.instance import InstanceLifecycle, OnFailure
from .lifecycle.journal import Journal
from .lifecycle.policy import DeployPolicy
from .lifecycle.sweep import Sweeper, SweepReport
from .lifecycle.wait import Until, deadline_in
from .models.instances import (
    Container,
    ContainerSummary,
    Instance,
    InstanceRef,
    Machine,
    MachineSummary,
    Referable,
)
from .models.specs import BareMetalSpec, ContainerSpec, Spec, VMSpec
from .models.updates import ContainerUpdate
from .models.values import Kind
from .polling.schedule import Poll
from .resources.account import Account
from .resources.containers import Containers
from .resources.endpoints import Endpoints
from .resources.instances import ref_of
from .resources.machines import Machines
from .resources.plans import Images, Plans
from .runtime import Runtime
from .tail.events import EventTail
from .tail.iterator import Tail
from .tail.logs import LogTail
from .tail.merged import MergedTail

TailT = TypeVar("TailT", bound=Tail[Any])


class Session:
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
        runtime = Runtime.build(
            origin,
            transport,
            poll or Poll(),
            deploy or DeployPolicy(),
            Journal(journal, origin, headers.credential),
            close_timeout,
        )
        self._bind(runtime, transport)

    def _bind(self, runtime: Runtime, transport: Transport) -> None:
        """Make everything whose calls go through `transport`; the rest is `runtime`'s."""
        endpoints = {kind: Endpoints(transport, kind) for kind in Kind}
        self._runtime = runtime
        self._transport = transport
        self._endpoints = endpoints
        self.plans: Plans = Plans(transport)
        self.images: Images = Images(transport)
        self.account: Account = Account(transport)
        self.containers: Containers = Containers(endpoints[Kind.CONTAINER], runtime.deployer)
        self.vms: Machines[VMSpec] = Machines(endpoints[Kind.VM], runtime.deployer)
        self.baremetal: Machines[BareMetalSpec] = Machines(endpoints[Kind.BAREMETAL], runtime.deployer)
        self._lifecycle = InstanceLifecycle(
            endpoints,
            runtime.deployer,
            runtime.waiter,
            runtime.custodian,
            runtime.home,
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
        changed = attrs.evolve(self._transport, **{k: v for k, v in changes.items() if v is not None})
        view._bind(self._runtime, changed)
        return view

    # --- one instance --------------------------------------------------------------------------------------

    @overload
    async def deploy_and_wait(
        self,
        spec: ContainerSpec,
        *,
        until: Until = ...,
        timeout: float | None = ...,
        on_failure: OnFailure = ...,
        adopt: bool = ...,
    ) -> Container: ...
    @overload
    async def deploy_and_wait(
        self,
        spec: VMSpec,
        *,
        until: Until = ...,
        timeout: float | None = ...,
        on_failure: OnFailure = ...,
        adopt: bool = ...,
    ) -> Machine: ...
    @overload
    async def deploy_and_wait(
        self,
        spec: Spec,
        *,
        until: Until = ...,
        timeout: float | None = ...,
        on_failure: OnFailure = ...,
        adopt: bool = ...,
    ) -> Instance: ...
    async def deploy_and_wait(
        self,
        spec: Spec,
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        adopt: bool = False,
    ) -> Instance:
        """Deploy `spec` once and wait until the instance is as far as `until`; 2-3 minutes are usual.

        Args:
            spec: what to deploy.
            until: how far it must have come.
            timeout: seconds for all of it; None waits for ever.
            on_failure: what becomes of the instance when the wait ends badly, by cancellation too.
                `"terminate"`: the session ends it as soon as the service allows, if need be after this
                call has raised. `"keep"`: it runs on, and costs; the error's `ref` names it.
            adopt: first look for a live instance of that name, and take it instead of paying twice.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service did refuse it (balance, plan, image).
            InstanceFailedError: provisioning failed, and is refunded; or a container does not stay up
                (`is_billing`; not for ACTIVE). Has the events and last log lines.
            InstanceEndedError: it has ended meanwhile.
            WaitTimeoutError: `timeout` ran out.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        refuse(
            until_problems(until),
            timeout_problems(timeout),
            on_failure_problems(on_failure),
            adopt_problems(adopt),
            specs=[spec],
        )
        deadline = deadline_in(timeout)
        return await self._lifecycle.deploy_and_wait(spec, until, deadline, on_failure, adopt=adopt)

    @overload
    async def wait(
        self, instance: ContainerSummary, *, until: Until = ..., timeout: float | None = ...
    ) -> Container: ...
    @overload
    async def wait(
        self, instance: MachineSummary, *, until: Until = ..., timeout: float | None = ...
    ) -> Machine: ...
    @overload
    async def wait(
        self, instance: Referable, *, until: Until = ..., timeout: float | None = ...
    ) -> Instance: ...
    async def wait(
        self, instance: Referable, *, until: Until = Until.ACTIVE, timeout: float | None = 900
    ) -> Instance:
        """Wait until the instance is as far as `until`, and give it in full. Ends nothing.

        Args:
            instance: a ref, or any instance object.
            until: how far it must have come.
            timeout: seconds; None waits for ever. There is one last look when it runs out.

        Raises:
            ConfigError: that is no instance, such as an id alone.
            InstanceFailedError: provisioning failed, or a container does not stay up (`is_billing`; not for
                ACTIVE). Has the container's events and last log lines.
            InstanceEndedError: it has ended, or the service no longer knows it.
            WaitTimeoutError: `timeout` ran out.
            AuthError: the key is not, or no longer, good.
        """
        refuse(until_problems(until), timeout_problems(timeout))
        return await self._lifecycle.wait(ref_of(instance), until, timeout)

    async def update_and_wait(
        self,
        container: InstanceRef | ContainerSummary,
        update: ContainerUpdate,
        *,
        timeout: float | None = 900,
    ) -> Container:
        """Update a container and wait until its detail shows the new configuration and it has started.

        Args:
            container: a ref, or a container.
            update: all of the new configuration; start from `ContainerUpdate.from_container`.
            timeout: seconds; None waits for ever.

        Raises:
            ConfigError: this is no container.
            SpecError: the service would refuse the update; nothing was sent.
            UpdateInProgressError: an earlier update is still being applied.
            InstanceFailedError: it failed, or does not stay up (`is_billing`). Has the events and last log
                lines.
            InstanceEndedError: it has ended.
            WaitTimeoutError: `timeout` ran out; the update may still be applied.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        ref = ref_of(container)
        if ref.kind is not Kind.CONTAINER:
            raise ConfigError(f"only containers can be updated, and this is a {ref.kind}")
        refuse(timeout_problems(timeout), update_problems(update))
        return await self._lifecycle.update(ref, update, timeout)

    async def terminate_and_wait(
        self, instance: Referable, *, timeout: float | None = 2400
    ) -> Instance | None:
        """See the instance gone, whatever its status is now: one that is not ACTIVE yet is waited for.

        Gives the last look at it; None when the service does not know it.

        Args:
            instance: a ref, or any instance object.
            timeout: seconds; None waits for ever. The default covers a provisioning and a DELETE that is
                refused for 20 minutes after it, as machines refuse it.

        Raises:
            ConfigError: that is no instance, such as an id alone.
            WaitTimeoutError: `timeout` ran out; it may still be billing.
            AuthError: the key is not, or no longer, good.
        """
        refuse(timeout_problems(timeout))
        return await self._lifecycle.end(ref_of(instance), timeout)

    @overload
    def running(
        self, spec: ContainerSpec, *, until: Until = ..., timeout: float | None = ..., adopt: bool = ...
    ) -> AbstractAsyncContextManager[Container]: ...
    @overload
    def running(
        self, spec: VMSpec, *, until: Until = ..., timeout: float | None = ..., adopt: bool = ...
    ) -> AbstractAsyncContextManager[Machine]: ...
    @overload
    def running(
        self, spec: Spec, *, until: Until = ..., timeout: float | None = ..., adopt: bool = ...
    ) -> AbstractAsyncContextManager[Instance]: ...
    def running(
        self,
        spec: Spec,
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        adopt: bool = False,
    ) -> AbstractAsyncContextManager[Any]:
        """The instance inside the block, gone behind it, however the block ends.

        `async with fluence.running(spec) as container: ...`

        Args:
            spec: what to deploy.
            until: how far it must have come before the block begins.
            timeout: seconds until then; None waits for ever.
            adopt: first look for a live instance of that name, and take it instead of paying twice.

        Raises:
            FluenceError: as `deploy_and_wait`, when the block is entered. When it is left, `AuthError`, or
                `WaitTimeoutError` after 45 minutes if the instance is not gone; the session then goes on
                ending it. ConfigError and SpecError come from the call itself.
        """
        refuse(until_problems(until), timeout_problems(timeout), adopt_problems(adopt), specs=[spec])
        return self._lifecycle.running(spec, until, timeout, adopt=adopt)

    @overload
    async def ensure(self, spec: Spec, *, until: None = ..., timeout: float | None = ...) -> InstanceRef: ...
    @overload
    async def ensure(
        self, spec: ContainerSpec, *, until: Until, timeout: float | None = ...
    ) -> Container: ...
    @overload
    async def ensure(
        self, spec: VMSpec | BareMetalSpec, *, until: Until, timeout: float | None = ...
    ) -> Machine: ...
    @overload
    async def ensure(self, spec: Spec, *, until: Until, timeout: float | None = ...) -> Instance: ...
    async def ensure(
        self, spec: Spec, *, until: Until | None = None, timeout: float | None = 900
    ) -> InstanceRef | Instance:
        """The live instance of that kind and name; if there is none, deploy it. It is never ended here.

        Calling it again, in this process or another one, gives the same instance: the primitive for durable
        engines, which repeat a step until it succeeds. Only the name is compared, not the rest of the spec.

        Args:
            spec: what to deploy.
            until: how far it must have come; None does not wait, and gives a ref.
            timeout: seconds for all of it; None waits for ever.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service did refuse it (balance, plan, image).
            InstanceFailedError: provisioning failed, and calling again deploys a new one; or a container does
                not stay up, and bills (`is_billing`; not for ACTIVE).
            InstanceEndedError: it has ended meanwhile.
            WaitTimeoutError: `timeout` ran out; the instance, if there is one, runs on.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        refuse(() if until is None else until_problems(until), timeout_problems(timeout), specs=[spec])
        deadline = deadline_in(timeout)
        if until is None:
            return await self._lifecycle.deploy(spec, deadline, "keep", adopt=True)
        return await self._lifecycle.deploy_and_wait(spec, until, deadline, "keep", adopt=True)

    # --- many instances ------------------------------------------------------------------------------------

    async def deploy_all_and_wait(
        self,
        specs: Iterable[Spec],
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
    ) -> Report:
        """Deploy all specs, each once, wait for all of them, and report what came of each.

        Cancelled, it leaves nothing behind (or all of it, with `on_failure="keep"`): the instances are the
        caller's when the report is.

        Args:
            specs: of any kinds; each name once. `spec.many(20)` makes twenty of one.
            until: how far each must have come. Beyond ACTIVE, ten containers of one image and command are
                sent first. The others follow when one of them is ready; after three crash loops they do not.
            timeout: seconds for all of it; None waits for ever. What is not ready then has failed.
            on_failure: what becomes of an instance whose wait ends badly, and of all when the launch is
                called off: `"terminate"` or `"keep"`, which leaves it to you as `unknown`.
            min_ready: as soon as fewer than that many can become ready, the launch is called off. None takes
                whatever becomes ready, unless the key, the account or the service's judgement of a spec
                dooms the rest, too: then it is called off. With a number, that number alone decides.
            max_hourly: what all of it may cost in one hour, in USDC, checked before anything is sent. Then
                the account's balance is checked as well, if the service gives it.
            fallback: what to try, in this order, for a spec whose plan is gone: plan ids, offers, functions
                from spec to spec. One that is over `max_hourly`, or an offer that does not fit, is skipped.
            on_progress: called with each `LaunchProgress`, in the event loop: keep it short.
            adopt: resume a launch that was killed: take the live instances of these names, each at its own
                price, and deploy only those that are missing. Without it, names that are live are refused.

        Raises:
            SpecError: names every problem of every spec and argument; nothing was sent.
            ConfigError: names every problem: arguments that make no sense, names that are live already,
                plans that are not for sale, a total over `max_hourly`. Nothing was deployed.
            InsufficientBalanceError: with `max_hourly`, the balance cannot pay the first hours; nothing was
                deployed.
            LaunchError: it was called off; its `report` says what came of each.
            FluenceError: a list or the prices could not be had, as in `aiofluence.errors`; nothing was
                deployed.
        """
        terms = Terms(until, timeout, on_failure, min_ready, max_hourly, fallback, on_progress, adopt)
        async with Launch(self._lifecycle, self.plans, self.account, specs, terms) as launch:
            return await launch.complete()

    def launch(
        self,
        specs: Iterable[Spec],
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
    ) -> Launch:
        """`deploy_all_and_wait`, outcome by outcome, in the order in which they settle.

        `async with fluence.launch(specs) as launch:` and inside of it `async for outcome in launch:`. An
        outcome that came is yours, and its instance with it. Leaving the block, in whatever way, gives up
        the rest. With `min_ready`, the first outcome comes once that many are ready, so that a launch that
        is called off has nothing to take back.

        Args:
            specs: as for `deploy_all_and_wait`, as is every other argument.

        Raises:
            ConfigError: `specs` is not several of anything.
            FluenceError: as `deploy_all_and_wait`: when the block is entered or, for LaunchError, by the
                iteration.
        """
        terms = Terms(until, timeout, on_failure, min_ready, max_hourly, fallback, on_progress, adopt)
        return Launch(self._lifecycle, self.plans, self.account, specs, terms)

    # --- logs and events -----------------------------------------------------------------------------------

    def tail_logs(self, container: Referable, *, last: int = 100) -> LogTail:
        """`async for line in fluence.tail_logs(container)`: every line once and in order.

        Where a line may be missing, because the service had dropped it before it could be fetched, a
        `LogGap` stands in its place. It survives errors, restarts and updates, looks every 1-15 seconds,
        and ends when the container has ended or failed and its last lines are out.

        Args:
            container: a ref, or any container object; it may still be INITIALIZED.
            last: how many of the lines that are there already come first, of each pod.

        Raises:
            ConfigError: this is no container, or `last` is below 1.
        """
        house, ref = self._runtime, ref_of(container)
        return self._own(
            LogTail(
                self._endpoints[Kind.CONTAINER], ref, _at_least_one(last), house.poll.pace, house.evidence
            )
        )

    def tail_events(self, container: Referable) -> EventTail:
        """`async for event in fluence.tail_events(container)`: those that are there, then each new one.

        New ones come in the order in which the service lists them, which is by object and not by time.

        Args:
            container: a ref, or any container object; it may still be INITIALIZED.

        Raises:
            ConfigError: this is no container.
        """
        house, ref = self._runtime, ref_of(container)
        return self._own(EventTail(self._endpoints[Kind.CONTAINER], ref, house.poll.pace, house.evidence))

    def tail_all(self, containers: Iterable[Referable], *, last: int = 100) -> MergedTail:
        """`async for tagged in fluence.tail_all(containers)`: the logs of all of them, `.ref` and `.line`.

        In the order of arrival; all of it stays within the session's rate, so that the more containers are
        followed, the more time lies between two looks at one. It ends when all of them have ended.

        Args:
            containers: refs, or any container objects.
            last: how many of the lines that are there already come first, of each pod.

        Raises:
            ConfigError: one of these is no container, or `last` is below 1.
        """
        refs = [ref_of(container) for container in containers]
        house = self._runtime
        last, pace = _at_least_one(last), house.poll.pace
        return self._own(
            MergedTail(self._endpoints[Kind.CONTAINER], refs, last, pace, house.evidence, house.home)
        )

    def _own(self, tail: TailT) -> TailT:
        tail.owner = self._runtime.home.owner
        return tail

    # --- instances without a holder ------------------------------------------------------------------------

    @property
    def custody(self) -> Custody:
        """What this session answers for at this moment: instances being ended, twins, names in doubt."""
        return self._runtime.custodian.now

    async def sweep(
        self,
        *,
        prefix: str | None = None,
        older_than: timedelta | float | None = None,
        dry_run: bool = True,
        only: Collection[InstanceRef] | None = None,
    ) -> SweepReport:
        """Find what earlier runs left behind and, unless `dry_run`, see it gone.

        With a journal: what other runs had deployed, or were deploying, and neither ended nor handed over,
        if nothing of them is in flight any more. With `prefix` or `older_than`: also every live instance that
        fits what is given, whoever deployed it, but for this session's own. One that is still being
        provisioned is waited for, at most 45 minutes.

        Args:
            prefix: how the name begins.
            older_than: a timedelta or seconds since it was deployed, by the service's clock.
            dry_run: end nothing, only report.
            only: end these alone, such as the `.found` of a dry run. None for all that is found.

        Raises:
            ConfigError: no journal, no prefix, no age: a sweep never means everything.
            FluenceError: no list of any kind came, so nothing was ended. The report says which kinds failed
                (`.failed`), and which instances could not be ended (`.left`).
        """
        house = self._runtime
        house.home.owner.check()
        sweeper = Sweeper(
            self._lifecycle.resources,
            house.custodian,
            house.journal,
            house.transport.clock,
            house.deployer,
            house.evidence,
        )
        with house.home.at_work():
            return await sweeper(prefix, older_than, dry_run, only)

    # --- any other request ---------------------------------------------------------------------------------

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
        retryable = Retryable.ALWAYS if method == "GET" else Retryable.NEVER
        body = b"" if json is None else encode(json)
        del json  # so that no traceback with locals shows what is in it
        if body is None:
            raise ConfigError("this body cannot be written as JSON")
        call = Call(method, safe_path(path), retryable).to(body=body, query=query)
        del body
        return await self._transport.exchange(call)

    # --- lifetime ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._runtime.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until what was abandoned is gone, at most `close_timeout` seconds, then close.

        Being cancelled, again even, does not cut it short; a second Ctrl-C does.

        Raises:
            CustodyError: something may still be running, and billing.
        """
        await self._runtime.close()

    def __repr__(self) -> str:
        house = getattr(self, "_runtime", None)  # a debugger may ask while it is still being built
        return f"<Session {house.origin} {house.state}>" if house else "<Session>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session holds a key and sockets; make one where you need it")


def _at_least_one(last: int) -> int:
    if last < 1:
        raise ConfigError(f"last must be at least 1, not {last}")
    return last
