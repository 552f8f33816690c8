"""The session: one object with every verb, one connection pool and one rate limiter.

`Session` checks arguments, then delegates to the packages below it. It owns their tasks and lifetimes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

import attrs

from .config import find_origin, request_headers, turn_on_log, user_agent
from .errors import ConfigError
from .http.codec import encode
from .http.messages import Call, Reply, Retryable, Timeout, Wire, safe_method, safe_path
from .http.rate_limit import RateLimit
from .http.retry import Retry
from .http.transport import OnReply, Transport
from .lifecycle.options import DeployPolicy, OnFailure, Until
from .models.custody import Custody
from .models.instances import (
    Container,
    ContainerSummary,
    Instance,
    InstanceRef,
    Machine,
    MachineSummary,
    Referable,
)
from .models.specs import BareMetalSpec, Deployable, Spec, VMSpec
from .models.updates import ContainerUpdate
from .models.values import Kind
from .polling.options import Poll
from .resources.account import Account
from .resources.containers import Containers
from .resources.endpoints import Endpoints
from .resources.instances import ref_of
from .resources.machines import Machines
from .resources.plans import Images, Plans
from .runtime import Runtime

if TYPE_CHECKING:  # imported with their first use, so that programs and commands without them start sooner
    from .batch.launch import Launch
    from .batch.options import Fallback
    from .batch.progress import OnProgress
    from .batch.report import Report
    from .http.aiohttp_wire import TraceConfig
    from .http.redis_rate_limit import RedisRate
    from .lifecycle.instance import InstanceLifecycle, InstanceT
    from .lifecycle.sweep import SweepReport
    from .resources.drift import OnDrift
    from .tail.events import EventTail
    from .tail.logs import LogTail
    from .tail.merged import MergedTail


class Session:
    """An account at the Fluence GPU Cloud. Use it as `async with Session() as fluence:`.

    Make one session per program and key. All its calls share one connection pool and one rate limiter. It
    ends every instance whose caller was cancelled.

    Attributes:
        plans: plans, offers and their prices.
        images: the service's ready-made container images.
        account: balance, and permissions of the key.
        containers: container endpoints.
        vms: VM endpoints.
        baremetal: bare-metal endpoints.

    Args:
        api_key: the key. Default: the variable `FLUENCE_API_KEY`, then the file that `FLUENCE_API_KEY_FILE`
            names, then the access token in `FLUENCE_ACCESS_TOKEN`.
        base_url: origin of the service, with or without `/gpu` at the end. Default: `FLUENCE_BASE_URL`, then
            `https://api.fluence.dev`.
        rate: rate limit of this session, or a `RedisRate` that it shares with other sessions.
        max_in_flight: maximum number of requests in flight.
        timeout: limit for one attempt of one request: a `Timeout`, or total seconds.
        retry: retry policy of a call.
        poll: poll intervals of waits.
        deploy: policy for deploys whose outcome is uncertain.
        journal: file in which the session notes each deploy before it sends it; created with mode 0600.
        close_timeout: maximum number of seconds that leaving the session waits until abandoned instances are
            gone. The default covers a slow provisioning and a DELETE that is refused for 20 minutes after it.
            Without any progress for 300 s, the session closes earlier.
        wire: carrier of requests instead of aiohttp, such as the simulator's in-process wire.
        trace_configs: trace configs of aiohttp, passed through unchanged.
        on_reply: function called with each call and its raw `Reply`, refusals included, before the reply is
            decoded. The session logs exceptions of this function.
        on_drift: function called once with each `Drift`: an unknown field, enum value, status, refusal text
            or reply format. With `FLUENCE_LOG=info` the session logs each drift. Otherwise it looks for none.
        user_agent_suffix: text after `aiofluence/<version>`, such as your program's name and version.
        allow_insecure: send the key to a plain-http `base_url` on another machine.
        trust_env: let aiohttp read proxies from the environment.

    Raises:
        ConfigError: the key is missing, or an argument is invalid.
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
        on_drift: OnDrift | None = None,
        user_agent_suffix: str = "",
        allow_insecure: bool = False,
        trust_env: bool = False,
    ) -> None:
        try:
            headers = request_headers(api_key)
        finally:
            del api_key  # from here on, only the headers hold the key, and their repr hides it
        headers["User-Agent"] = user_agent(user_agent_suffix)
        if not (max_in_flight >= 1 and close_timeout >= 0):
            raise ConfigError("a session needs max_in_flight >= 1 and close_timeout >= 0")
        origin = find_origin(base_url, allow_insecure=allow_insecure)
        watch = None
        if turn_on_log() or on_drift is not None:
            from .resources.drift import DriftWatch

            watch = DriftWatch(on_drift)
        if wire is None:
            from .http.aiohttp_wire import AiohttpWire

            wire = AiohttpWire(origin, trace_configs=trace_configs, trust_env=trust_env)
        poll = poll or Poll()
        transport = Transport(
            wire=wire,
            limiter=(rate or RateLimit()).limiter(max_in_flight),
            headers=headers,
            timeout=Timeout.of(timeout),
            retry=retry or Retry(),
            on_reply=on_reply,
            watch=watch,
            pace=poll.pace,
        )
        runtime = Runtime(origin, transport, poll, deploy or DeployPolicy(), journal, close_timeout)
        self._bind(runtime, transport)

    def _bind(self, runtime: Runtime, transport: Transport) -> None:
        """Create every object that sends through `transport`; take all others from `runtime`."""
        endpoints = {kind: Endpoints(transport, kind) for kind in Kind}
        self._runtime = runtime
        self._transport = transport
        self._endpoints = endpoints
        self.plans: Plans = Plans(transport)
        self.images: Images = Images(transport)
        self.account: Account = Account(transport)
        self.containers: Containers = Containers(endpoints[Kind.CONTAINER], runtime.deploy)
        self.vms: Machines[VMSpec] = Machines(endpoints[Kind.VM], runtime.deploy)
        self.baremetal: Machines[BareMetalSpec] = Machines(endpoints[Kind.BAREMETAL], runtime.deploy)

    @property
    def _lifecycle(self) -> InstanceLifecycle:
        return self._runtime.lifecycle.of(self._endpoints)

    def with_options(
        self,
        *,
        timeout: Timeout | float | None = None,
        retry: Retry | None = None,
        on_reply: OnReply | None = None,
    ) -> Session:
        """A view of this session with other options for its calls.

        The view shares the session's pool, rate limiter, custody and lifetime, so it needs no `async with`.
        Waits keep the session's poll intervals.

        Args:
            timeout: limit for one attempt of one request: a `Timeout`, or total seconds. None keeps the
                session's.
            retry: retry policy of a call. None keeps the session's.
            on_reply: function called with each call and its raw `Reply` (status, headers, body), refusals
                included, before the reply is decoded. None keeps the session's.
        """
        changes: dict[str, Any] = {"retry": retry, "on_reply": on_reply}
        if timeout is not None:
            changes["timeout"] = Timeout.of(timeout)
        view = type(self).__new__(type(self))
        changed = attrs.evolve(self._transport, **{k: v for k, v in changes.items() if v is not None})
        view._bind(self._runtime, changed)
        return view

    # --- one instance --------------------------------------------------------------------------------------

    async def deploy_and_wait(
        self,
        spec: Deployable[InstanceT],
        *,
        until: Until | str = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        adopt: bool = False,
        wait_for_capacity: float | None = None,
    ) -> InstanceT:
        """Deploy `spec` once and wait until its instance has reached `until`. Usually takes 2-3 minutes.

        Args:
            spec: the spec to deploy.
            until: state to wait for, such as `Until.READY` or `"ready"`.
            timeout: seconds for the deploy and the wait together; None waits forever.
            on_failure: fate of the instance when the wait fails or is cancelled. `"terminate"`: the session
                ends the instance as soon as the service allows, if necessary after this call has raised.
                `"keep"`: the instance keeps running and billing, and the error's `ref` names it.
            adopt: first search for a live instance of the same name, and adopt it instead of paying twice.
            wait_for_capacity: seconds, in addition to `timeout`, to wait for a plan if none fits or all are
                sold out. None does not wait.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service refused the spec (balance, plan, image).
            InstanceFailedError: provisioning failed, and the service refunds it. Or a container does not
                stay up (`is_billing`; never with `until=ACTIVE`). The error has the events and last log
                lines.
            InstanceEndedError: the instance ended during the wait.
            WaitTimeoutError: `timeout` ran out.
            UncertainDeployError: the session could not find out if the instance was deployed.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._lifecycle.deploy_and_wait(
            spec, until, timeout, on_failure, adopt, wait_for_capacity
        )

    @overload
    async def wait(
        self, instance: ContainerSummary, *, until: Until | str = ..., timeout: float | None = ...
    ) -> Container: ...
    @overload
    async def wait(
        self, instance: MachineSummary, *, until: Until | str = ..., timeout: float | None = ...
    ) -> Machine: ...
    @overload
    async def wait(
        self, instance: Referable, *, until: Until | str = ..., timeout: float | None = ...
    ) -> Instance: ...
    async def wait(
        self, instance: Referable, *, until: Until | str = Until.ACTIVE, timeout: float | None = 900
    ) -> Instance:
        """Wait until the instance has reached `until`, and return its detail.

        Args:
            instance: a ref, or any instance object.
            until: state to wait for.
            timeout: seconds; None waits forever. When the timeout runs out, the session polls once more.

        Raises:
            ConfigError: `instance` is no instance, such as an id alone.
            InstanceFailedError: provisioning failed, or a container does not stay up (`is_billing`; never
                with `until=ACTIVE`). The error has the container's events and last log lines.
            InstanceEndedError: the instance has ended, or the service no longer knows it.
            WaitTimeoutError: `timeout` ran out.
            AuthError: the key is not, or no longer, valid.
        """
        return await self._lifecycle.wait(instance, until, timeout)

    async def update_and_wait(
        self,
        container: InstanceRef | ContainerSummary,
        update: ContainerUpdate,
        *,
        timeout: float | None = 900,
    ) -> Container:
        """Update a container, then wait until its detail shows the new configuration and it has started.

        Args:
            container: a ref, or a container.
            update: the whole new configuration. Start from `ContainerUpdate.from_container`.
            timeout: seconds; None waits forever.

        Raises:
            ConfigError: `container` is no container.
            SpecError: the service would refuse the update; nothing was sent.
            UpdateInProgressError: the service is still applying an earlier update.
            InstanceFailedError: the container failed, or does not stay up (`is_billing`). The error has the
                events and last log lines.
            InstanceEndedError: the container has ended.
            WaitTimeoutError: `timeout` ran out; the service may still apply the update.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._lifecycle.update_and_wait(container, update, timeout)

    async def terminate_and_wait(
        self, instance: Referable, *, timeout: float | None = 2400
    ) -> Instance | None:
        """End the instance and wait until it is gone, whatever its status.

        If the instance is not ACTIVE yet, first wait until it is. Return the last detail of the instance, or
        None when the service does not know the instance.

        Args:
            instance: a ref, or any instance object.
            timeout: seconds; None waits forever. The default covers a provisioning and a DELETE that is
                refused for 20 minutes after it, as for machines.

        Raises:
            ConfigError: `instance` is no instance, such as an id alone.
            WaitTimeoutError: `timeout` ran out; the instance may still be billing.
            AuthError: the key is not, or no longer, valid.
        """
        return await self._lifecycle.terminate_and_wait(instance, timeout)

    def running(
        self,
        spec: Deployable[InstanceT],
        *,
        until: Until | str = Until.ACTIVE,
        timeout: float | None = 900,
        adopt: bool = False,
        wait_for_capacity: float | None = None,
    ) -> AbstractAsyncContextManager[InstanceT]:
        """Context manager with a running instance, which is ended however the block ends.

        `async with fluence.running(spec) as container: ...`

        Args:
            spec: the spec to deploy.
            until: state that the instance must reach before the block begins.
            timeout: seconds until the block begins; None waits forever.
            adopt: first search for a live instance of the same name, and adopt it instead of paying twice.
            wait_for_capacity: seconds, in addition to `timeout`, to wait for a plan if none fits or all are
                sold out. None does not wait.

        Raises:
            FluenceError: on entering the block, as `deploy_and_wait`. On leaving it, `AuthError`, or
                `WaitTimeoutError` if the instance is not gone after 45 minutes. The session then continues
                to end it. ConfigError and SpecError come from the call itself.
        """
        return self._lifecycle.running(spec, until, timeout, adopt, wait_for_capacity)

    @overload
    async def ensure(
        self,
        spec: Spec,
        *,
        until: None = ...,
        timeout: float | None = ...,
        wait_for_capacity: float | None = ...,
    ) -> InstanceRef: ...
    @overload
    async def ensure(
        self,
        spec: Deployable[InstanceT],
        *,
        until: Until | str,
        timeout: float | None = ...,
        wait_for_capacity: float | None = ...,
    ) -> InstanceT: ...
    async def ensure(
        self,
        spec: Deployable[Any],
        *,
        until: Until | str | None = None,
        timeout: float | None = 900,
        wait_for_capacity: float | None = None,
    ) -> InstanceRef | Instance:
        """Return the live instance of this kind and name; deploy one if there is none.

        A repeated call, in this process or another, returns the same instance. Durable engines, which repeat
        a step until it succeeds, can build on this. Only the name is compared, not the whole spec. This call
        never ends an instance.

        Args:
            spec: the spec to deploy.
            until: state to wait for; None does not wait, and returns a ref.
            timeout: seconds for the deploy and the wait together; None waits forever.
            wait_for_capacity: seconds, in addition to `timeout`, to wait for a plan if none fits or all are
                sold out. None does not wait.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service refused the spec (balance, plan, image).
            InstanceFailedError: provisioning failed, and another call deploys a new instance. Or a container
                does not stay up, and is billing (`is_billing`; never with `until=ACTIVE`).
            InstanceEndedError: the instance ended during the wait.
            WaitTimeoutError: `timeout` ran out; the instance, if there is one, keeps running.
            UncertainDeployError: the session could not find out if the instance was deployed.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._lifecycle.ensure(spec, until, timeout, wait_for_capacity)

    # --- many instances ------------------------------------------------------------------------------------

    async def deploy_all_and_wait(
        self,
        specs: Iterable[Spec],
        *,
        until: Until | str = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
        gpu: str | Iterable[str] | None = None,
        wait_for_capacity: float | None = None,
    ) -> Report:
        """Deploy all specs, each once, wait for all instances, and report each outcome.

        The instances belong to the caller once the report is returned. A cancelled call leaves no instance
        behind, or all of them with `on_failure="keep"`.

        Args:
            specs: specs of any kinds; each name at most once. `spec.many(20)` makes twenty specs from one.
            until: state to wait for. Beyond ACTIVE, only ten containers of the same image and command are
                deployed at first. The others follow when one of the ten is ready. After three crash loops,
                the session does not deploy the others.
            timeout: seconds for all instances together; None waits forever. An instance that is not ready by
                then has failed.
            on_failure: fate of an instance whose wait fails, and of all instances when the launch is called
                off. `"terminate"` ends them. `"keep"` leaves them to you as `unknown`.
            min_ready: minimum number of ready instances. The launch is called off as soon as fewer can become
                ready, and for no other reason. With None, any number is accepted. The launch is then called
                off if the key, the account or a refused spec shows that the rest would fail too.
            max_hourly: maximum price of all instances for one hour, in USDC, checked before anything is sent.
                The session then also checks the account's balance, if the service returns it.
            fallback: alternatives, in this order, for a spec whose plan is gone: plan ids, offers, or
                functions from spec to spec. An alternative over `max_hourly` and an offer that does not fit
                are skipped.
            on_progress: function called with each `LaunchProgress`, in the event loop. It must be fast.
            adopt: resume a launch that was killed. Adopt the live instances of these names, each at its own
                price, and deploy only the missing ones. Without `adopt`, live names are refused.
            gpu: GPU models in order of preference, such as `["rtx4090", "l4"]`, for each spec that names none
                itself. See `Deployable.gpu`. A spec takes the cheapest plan of the first model that is for
                rent, before any `fallback`.
            wait_for_capacity: seconds, in addition to `timeout`, to wait for a plan if none fits or all are
                sold out. The launch requests the plans every 15 seconds, once for all specs. None does not
                wait.

        Raises:
            SpecError: names every problem of every spec and argument; nothing was sent.
            ConfigError: names every problem: invalid arguments, names that are already live, a total over
                `max_hourly`. Nothing was deployed.
            PlanUnavailableError: no plan for rent fits a spec. Names every such spec. Nothing was deployed.
            InsufficientBalanceError: with `max_hourly`, the balance cannot pay the first hours. Nothing was
                deployed.
            LaunchError: the launch was called off; its `report` has each outcome.
            FluenceError: a list or the prices could not be fetched, as in `aiofluence.errors`. Nothing was
                deployed.
        """
        launch = self.launch(
            specs,
            until=until,
            timeout=timeout,
            on_failure=on_failure,
            min_ready=min_ready,
            max_hourly=max_hourly,
            fallback=fallback,
            on_progress=on_progress,
            adopt=adopt,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
        )
        async with launch:
            return await launch.complete()

    def launch(
        self,
        specs: Iterable[Spec],
        *,
        until: Until | str = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
        gpu: str | Iterable[str] | None = None,
        wait_for_capacity: float | None = None,
    ) -> Launch:
        """Launch many instances and iterate over the outcomes, in the order in which they become final.

        `async with fluence.launch(specs) as launch:` and inside it `async for outcome in launch:`. The
        instance of each outcome that the iteration has yielded is yours. Leaving the block gives up the
        rest. With `min_ready`, the first outcome is yielded once that many instances are ready. A launch
        that is called off has therefore yielded no instance.

        Args:
            specs: as for `deploy_all_and_wait`, like every other argument.

        Raises:
            ConfigError: `specs` is not an iterable of specs.
            FluenceError: as `deploy_all_and_wait`: on entering the block, or from the iteration in the case
                of LaunchError.
        """
        from .batch.launch import Launch
        from .batch.options import Terms

        terms = Terms(
            until,
            timeout,
            on_failure,
            min_ready,
            max_hourly,
            fallback,
            on_progress,
            adopt,
            gpu,
            wait_for_capacity,
        )
        return Launch(self._lifecycle, self.account, specs, terms)

    # --- logs and events -----------------------------------------------------------------------------------

    def tail_logs(self, container: Referable, *, last: int = 100) -> LogTail:
        """Tail a container's log, each line once, in order: `async for line in fluence.tail_logs(container)`.

        The service may drop a line before the tail can fetch it. In such a place the tail yields a `LogGap`.
        The tail survives errors, restarts and updates, and polls every 1-15 seconds. It ends when the
        container has ended or failed and the tail has yielded its last lines.

        Args:
            container: a ref, or any container object; may still be INITIALIZED.
            last: number of existing lines to return first, for each pod.

        Raises:
            ConfigError: `container` is no container, or `last` is below 1.
        """
        from .tail.logs import LogTail

        runtime, ref = self._runtime, ref_of(container)
        pace, evidence = runtime.poll.pace, runtime.evidence
        return LogTail(self._endpoints[Kind.CONTAINER], ref, _at_least_one(last), pace, evidence)

    def tail_events(self, container: Referable) -> EventTail:
        """Tail a container's events: `async for event in fluence.tail_events(container)`.

        Existing events come first, then each new event. New events come in the order in which the service
        lists them. The service orders by object, not time.

        Args:
            container: a ref, or any container object; may still be INITIALIZED.

        Raises:
            ConfigError: `container` is no container.
        """
        from .tail.events import EventTail

        runtime, ref = self._runtime, ref_of(container)
        pace, evidence = runtime.poll.pace, runtime.evidence
        return EventTail(self._endpoints[Kind.CONTAINER], ref, pace, evidence)

    def tail_all(self, containers: Iterable[Referable], *, last: int = 100) -> MergedTail:
        """Tail the logs of several containers: `async for tagged in fluence.tail_all(containers)`.

        Each item has a `.ref` and a `.line`. Lines come in the order of arrival. All tails together stay
        within the session's rate. The more containers there are, the longer the interval between two polls of
        one container. The iteration ends when all containers have ended.

        Args:
            containers: refs, or any container objects.
            last: number of existing lines to return first, for each pod.

        Raises:
            ConfigError: an element is no container, or `last` is below 1.
        """
        from .tail.merged import MergedTail

        refs = [ref_of(container) for container in containers]
        runtime = self._runtime
        last, pace = _at_least_one(last), runtime.poll.pace
        evidence, tasks = runtime.evidence, runtime.tasks
        return MergedTail(self._endpoints[Kind.CONTAINER], refs, last, pace, evidence, tasks)

    # --- instances without a holder ------------------------------------------------------------------------

    @property
    def custody(self) -> Custody:
        """Everything in this session's custody now: instances being ended, duplicates, uncertain names."""
        return self._runtime.custody

    async def sweep(
        self,
        *,
        prefix: str | None = None,
        older_than: timedelta | float | None = None,
        dry_run: bool = True,
        only: Collection[InstanceRef] | None = None,
    ) -> SweepReport:
        """Find instances that earlier runs left behind and, unless `dry_run`, end them.

        With a journal, the sweep finds instances that other runs deployed, or were deploying, and neither
        ended nor handed over. It skips runs that still have work in flight. With `prefix` or `older_than`,
        it also finds every live instance that matches all given criteria, except this session's own. For an
        instance that is still provisioning, the sweep waits at most 45 minutes.

        Args:
            prefix: beginning of the name.
            older_than: minimum time since the deploy by the service's clock, as a timedelta or in seconds.
            dry_run: only report, and end nothing.
            only: end only these instances, such as the `.found` of a dry run. None ends all that are found.

        Raises:
            ConfigError: there is no journal, no prefix and no age. A sweep never means every instance.
            FluenceError: no list of any kind could be fetched, so nothing was ended. The report names the
                kinds that failed (`.failed`) and the instances that could not be ended (`.left`).
        """
        from .lifecycle.sweep import Sweeper

        runtime, lifecycle = self._runtime, self._runtime.lifecycle
        runtime.tasks.owner.check()
        sweeper = Sweeper(
            self._endpoints,
            lifecycle.custodian,
            lifecycle.journal,
            runtime.transport.clock,
            lifecycle.deployer,
            runtime.evidence,
        )
        with runtime.tasks.at_work():
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
        """Send any request to the service, with the usual rate limiter, retries and errors.

        For endpoints that have no method here. A GET is retried like every GET. Any other request is sent
        once, and again only if it certainly did not leave this machine.

        Args:
            method: HTTP method, such as `"GET"`.
            path: such as `"/gpu/plans/"`.
            query: query parameters; values are converted to text, and None values are left out.
            json: the body, encoded as JSON; None sends no body.

        Raises:
            ConfigError: `method` is no HTTP method, or `path` is not a path of the service.
            FluenceError: as in `aiofluence.errors`.
        """
        method = safe_method(method)
        retryable = Retryable.ALWAYS if method == "GET" else Retryable.NEVER
        body = b"" if json is None else encode(json)
        del json  # a traceback with locals must not show the body
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
        await self.aclose()

    async def aclose(self) -> None:
        """Wait until abandoned instances are gone, at most `close_timeout` seconds, then close.

        Leaving the block does the same. A closed session stays closed.

        Cancellation, even repeated, does not cut the wait short. A second Ctrl-C does.

        Raises:
            CustodyError: something may still be running, and billing.
        """
        if self._runtime.state != "closed":
            await self._runtime.close()

    def __repr__(self) -> str:
        runtime = getattr(self, "_runtime", None)  # missing if a debugger asks during __init__
        return f"<Session {runtime.origin} {runtime.state}>" if runtime else "<Session>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session holds a key and sockets; make one where you need it")


def _at_least_one(last: int) -> int:
    if last < 1:
        raise ConfigError(f"last must be at least 1, not {last}")
    return last
