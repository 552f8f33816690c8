"""The session's verbs for one instance: deploy it, wait for it, update it, see it gone.

A base class of `Session`, and no use without it. Arguments and their meaning stand here; the work is
`launch`'s.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, overload

from ..errors import ConfigError
from ..models.instances import (
    Container,
    ContainerSummary,
    Instance,
    InstanceRef,
    Machine,
    MachineSummary,
    Referable,
)
from ..models.specs import ContainerSpec, Spec, VMSpec
from ..models.updates import ContainerUpdate
from ..models.values import Kind
from ..resources.instances import ref_of
from .arguments import (
    adopt_problems,
    on_failure_problems,
    refuse,
    timeout_problems,
    until_problems,
    update_problems,
)
from .instance import Launcher, OnFailure
from .wait import Until, deadline_in


class LaunchesOne:
    """What a session does with one instance."""

    _launcher: Launcher

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
        return await self._launcher.deploy_and_wait(spec, until, deadline, on_failure, adopt=adopt)

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
        return await self._launcher.wait(ref_of(instance), until, timeout)

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
        return await self._launcher.update(ref, update, timeout)

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
        return await self._launcher.end(ref_of(instance), timeout)

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
        return self._launcher.running(spec, until, timeout, adopt=adopt)
