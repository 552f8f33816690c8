"""The verbs for a program that may die at any moment: adopt instead of paying twice, sweep what was left.

A base class of `Session`, and no use without it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import overload

from .lifecycle.arguments import refuse, timeout_problems, until_problems
from .lifecycle.custody import Custody
from .lifecycle.instance import Launcher
from .lifecycle.sweep import Sweeper, SweepReport
from .lifecycle.wait import Until, deadline_in
from .models.instances import Container, Instance, InstanceRef, Machine
from .models.specs import BareMetalSpec, ContainerSpec, Spec, VMSpec
from .runtime import House


class SurvivesCrashes:
    """What a session can do about other runs, earlier or at the same time."""

    _house: House
    _launcher: Launcher

    @property
    def custody(self) -> Custody:
        """What this session answers for at this moment: instances being ended, twins, names in doubt."""
        return self._house.custodian.now

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
            return await self._launcher.deploy(spec, deadline, "keep", adopt=True)
        return await self._launcher.deploy_and_wait(spec, until, deadline, "keep", adopt=True)

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
        house = self._house
        house.home.owner.check()
        sweeper = Sweeper(
            self._launcher.resources,
            house.custodian,
            house.journal,
            house.transport.clock,
            house.deployer,
            house.evidence,
        )
        with house.home.at_work():
            return await sweeper(prefix, older_than, dry_run, only)
