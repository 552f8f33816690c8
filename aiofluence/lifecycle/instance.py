"""The way from a spec to an instance in the caller's hands, and its end: deploy_and_wait, running, waits.

Combines deploy, wait and custody, so that the session ends the instance after any failure, and the error has
a way to continue. `batch` deploys many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, cast

import attrs

from ..background import BackgroundTasks, loop_time
from ..errors import (
    ConfigError,
    FluenceError,
    InstanceFailedError,
    LifecycleError,
    PlanUnavailableError,
    WaitTimeoutError,
)
from ..http.transport import ServerClock
from ..models.instances import Container, Instance, InstanceRef, Referable
from ..models.specs import Deployable, Spec
from ..models.spending import estimate_spend
from ..models.updates import ContainerUpdate
from ..models.values import Kind
from ..polling.state import WaitHistory
from ..resources.catalogue import Choice
from ..resources.endpoints import Endpoints
from ..resources.instances import ref_of
from .arguments import deadlines, refuse, update_problems
from .custody import Custodian
from .deploy import Deployer
from .options import OnFailure, Until
from .shared_list import NamedRows
from .wait import Waiter, deadline_in, is_deadline

InstanceT = TypeVar("InstanceT", bound=Instance)
_Resume: TypeAlias = Callable[[float | None], Awaitable[Instance | None]]
"""A function that continues a wait, for that many seconds."""


class InstanceLifecycle:
    """The session's verbs for single instances, and the steps that launches share with them."""

    def __init__(
        self,
        resources: Mapping[Kind, Endpoints],
        deployer: Deployer,
        waiter: Waiter,
        custodian: Custodian,
        tasks: BackgroundTasks,
        clock: ServerClock,
    ) -> None:
        self.resources: Final = resources
        self.custodian: Final = custodian
        self.tasks: Final = tasks
        self.deployer: Final = deployer
        self.times: Final = waiter.times
        self._waiter = waiter
        self._clock = clock

    async def deploy_and_wait(
        self,
        spec: Deployable[InstanceT],
        until: Until | str,
        timeout: float | None,
        on_failure: OnFailure,
        adopt: bool,
        wait_for_capacity: float | None,
    ) -> InstanceT:
        """Deploy `spec` and wait. See `Session.deploy_and_wait`."""
        refuse(
            until=until,
            timeout=timeout,
            on_failure=on_failure,
            adopt=adopt,
            wait_for_capacity=wait_for_capacity,
            specs=[spec],
        )
        deadline, capacity_until = deadlines(timeout, wait_for_capacity)
        return await self._deploy_and_wait(spec, Until(until), deadline, on_failure, adopt, capacity_until)

    async def ensure(
        self,
        spec: Deployable[InstanceT],
        until: Until | str | None,
        timeout: float | None,
        wait_for_capacity: float | None,
    ) -> InstanceRef | InstanceT:
        """Adopt or deploy an instance, and keep it. See `Session.ensure`."""
        refuse(
            until=Until.ACTIVE if until is None else until,
            timeout=timeout,
            wait_for_capacity=wait_for_capacity,
            specs=[spec],
        )
        deadline, capacity_until = deadlines(timeout, wait_for_capacity)
        if until is None:
            return await self.deploy(spec, deadline, "keep", adopt=True, capacity_until=capacity_until)
        return await self._deploy_and_wait(spec, Until(until), deadline, "keep", True, capacity_until)

    async def _deploy_and_wait(
        self,
        spec: Deployable[InstanceT],
        until: Until,
        deadline: float | None,
        on_failure: OnFailure,
        adopt: bool,
        capacity_until: float | None,
        *,
        hand_over: bool = True,
    ) -> InstanceT:
        with self.tasks.at_work():
            ref = await self.deploy(
                spec, deadline, on_failure, adopt=adopt, hand_over=False, capacity_until=capacity_until
            )
            instance = await self.see_through(ref, until, deadline, on_failure, fresh=not adopt)
            if hand_over:
                self.custodian.hand_over(ref)
        return cast(InstanceT, instance)

    async def deploy(
        self,
        spec: Deployable[Any],
        deadline: float | None,
        on_failure: OnFailure,
        *,
        adopt: bool = False,
        hand_over: bool = True,
        known: NamedRows | None = None,
        choice: Choice | None = None,
        capacity_until: float | None = None,
    ) -> InstanceRef:
        """Deploy `spec`. `on_failure` decides about the instance if the caller stops waiting.

        `known` is the LIST in which `adopt` finds the instance. None requests a LIST. `choice` has the plans.
        None takes those of `spec`. Until the loop time `capacity_until`, retry when a plan is for rent.

        Raises:
            WaitTimeoutError: `deadline` came first.
            FluenceError: as `Deployer`.
        """
        resource = self.resources[spec.kind]
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # a deadline that has passed already raises here, before the POST
                choice = choice or self.deployer.catalogue.choice(cast(Spec, spec))
                while True:
                    try:
                        return await self.deployer(
                            resource,
                            choice.spec,
                            on_failure=on_failure,
                            adopt=adopt,
                            hand_over=hand_over,
                            known=known,
                            choice=choice,
                        )
                    except PlanUnavailableError as error:
                        choice, known = await choice.wait(error, capacity_until), None
        except TimeoutError as error:
            if not is_deadline(error):
                raise
        fate = "and runs on" if on_failure == "keep" else "and the session then ends it"
        raise WaitTimeoutError(
            f"{spec.kind} {spec.name} was not deployed in time; it may still be created, {fate}"
        )

    async def see_through(
        self,
        ref: InstanceRef,
        until: Until,
        deadline: float | None,
        on_failure: OnFailure,
        *,
        fresh: bool = True,
        history: WaitHistory | None = None,
    ) -> Instance:
        """Wait as `wait` does. If the wait fails, `on_failure` decides about the instance.

        `fresh`: the instance was deployed just now, so that the first poll can wait. `history` is filled in.
        """
        keep = on_failure == "keep"
        with self._resumable(self._resume_wait(ref, until) if keep else _being_ended):
            try:
                return await self._waiter.wait(ref, until, deadline, fresh=fresh, history=history)
            except BaseException as error:
                # Of any type, even a cancellation: no caller holds the instance now.
                failure = error if isinstance(error, InstanceFailedError) else None
                if failure is not None and not failure.is_billing:
                    self.custodian.note_gone(ref)  # the instance is over already
                elif keep:
                    self.custodian.hand_over(ref)
                    if isinstance(error, FluenceError):
                        error.ref = ref
                else:
                    self.custodian.take(ref)
                    if failure is not None:
                        failure.args = (f"{failure.args[0]}; the session is ending it",)
                raise

    def running(
        self,
        spec: Deployable[InstanceT],
        until: Until | str,
        timeout: float | None,
        adopt: bool,
        wait_for_capacity: float | None,
    ) -> AbstractAsyncContextManager[InstanceT]:
        """Provide the instance inside a block, and end it at the exit. See `Session.running`."""
        refuse(until=until, timeout=timeout, adopt=adopt, wait_for_capacity=wait_for_capacity, specs=[spec])
        return self._running(spec, Until(until), timeout, adopt, wait_for_capacity)

    @asynccontextmanager
    async def _running(
        self,
        spec: Deployable[InstanceT],
        until: Until,
        timeout: float | None,
        adopt: bool,
        wait_for_capacity: float | None,
    ) -> AsyncIterator[InstanceT]:
        deadline, capacity_until = deadlines(timeout, wait_for_capacity)
        with self.tasks.at_work():
            instance = await self._deploy_and_wait(
                spec, until, deadline, "terminate", adopt, capacity_until, hand_over=False
            )
            self.custodian.lend(instance.ref)
            try:
                yield instance
            finally:
                self.tasks.owner.check()
                await self.custodian.see_gone(instance.ref)

    async def wait(self, instance: Referable, until: Until | str, timeout: float | None) -> Instance:
        """Wait until `instance` is in state `until`. See `Session.wait`."""
        refuse(until=until, timeout=timeout)
        ref, until = ref_of(instance), Until(until)
        with self._resumable(self._resume_wait(ref, until)):
            return await self._waiter.wait(ref, until, deadline_in(timeout))

    def _resume_wait(self, ref: InstanceRef, until: Until) -> _Resume:
        return lambda timeout: self.wait(ref, until, timeout)

    async def update_and_wait(
        self, container: Referable, update: ContainerUpdate, timeout: float | None, *, sent: bool = False
    ) -> Container:
        """Send `update`, unless it was `sent`, and wait until it shows. See `Session.update_and_wait`."""
        ref = ref_of(container)
        if ref.kind is not Kind.CONTAINER:
            raise ConfigError(f"only containers can be updated, and this is a {ref.kind}")
        refuse(update_problems(update), timeout=timeout)
        deadline = deadline_in(timeout)
        with self._resumable(lambda timeout: self.update_and_wait(ref, update, timeout, sent=sent)):
            if not sent:
                await self._waiter.send_update(ref, update, deadline)
                sent = True
            return cast(Container, await self._waiter.update(ref, update, deadline))

    async def terminate_and_wait(self, instance: Referable, timeout: float | None) -> Instance | None:
        """End `instance`, and wait until it is gone. See `Session.terminate_and_wait`."""
        refuse(timeout=timeout)
        ref = ref_of(instance)
        with self._resumable(lambda timeout: self.terminate_and_wait(ref, timeout)):
            return await self._waiter.terminate(ref, deadline_in(timeout))

    @contextmanager
    def _resumable(self, resume: _Resume) -> Iterator[None]:
        """Add times, the money spent, `resume` and `terminate` to a LifecycleError that leaves the block."""
        began = loop_time()
        try:
            yield
        except LifecycleError as error:
            error.timeline = tuple(
                attrs.evolve(sighting, at=self._clock.at(began + sighting.after))
                for sighting in error.timeline
            )
            error.estimated_spend = estimate_spend(error.last_seen, self._clock.now)
            if error.ref is not None:
                error._resume = resume
                error._terminate = partial(self.custodian.see_gone, error.ref)
            raise


async def _being_ended(_: float | None) -> Instance | None:
    """Refuse to resume a wait whose instance the custodian ends."""
    raise ConfigError("the session is ending this instance; with on_failure='keep' a wait can be resumed")
