"""From a spec to an instance in the caller's hands, and away again: deploy_and_wait, running.

Puts deploy, wait and custody together, so that whatever goes wrong in between, somebody ends the instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeAlias

from ..errors import ConfigError, InstanceFailedError, WaitTimeoutError
from ..models.instances import Instance, InstanceRef
from ..models.specs import Spec
from ..models.values import Kind
from ..resources.instances import Instances
from .custody import Custodian
from .deploy import Deployer
from .wait import Until, Waiter, deadline_in

OnFailure: TypeAlias = Literal["terminate", "keep"]


class Launcher:
    """Launches for one session."""

    def __init__(
        self,
        resources: Mapping[Kind, Instances[Any, Any, Any]],
        deployer: Deployer,
        waiter: Waiter,
        custodian: Custodian,
    ) -> None:
        self.resources: Final = resources
        self._deployer = deployer
        self._waiter = waiter
        self._custodian = custodian

    async def deploy_and_wait(
        self, spec: Spec, until: Until, deadline: float | None, on_failure: OnFailure
    ) -> Instance:
        """Deploy `spec` and wait; see `Session.deploy_and_wait`.

        Raises:
            FluenceError: as `Session.deploy_and_wait`.
        """
        if on_failure not in ("terminate", "keep"):
            raise ConfigError(f"on_failure is 'terminate' or 'keep', not {on_failure!r}")
        ref = await self._deploy(spec, deadline, on_failure)
        try:
            return await self._waiter.wait(ref, until, deadline, fresh=True)
        except InstanceFailedError:
            raise  # there is nothing left to end
        except BaseException:
            # Whatever it was, a cancellation too: nobody holds the instance now.
            if on_failure == "terminate":
                self._custodian.take(ref)
            raise

    @asynccontextmanager
    async def running(self, spec: Spec, until: Until, timeout: float | None) -> AsyncIterator[Instance]:
        """The instance inside the block, gone behind it; see `Session.running`.

        Raises:
            FluenceError: as `Session.running`.
        """
        deadline = deadline_in(timeout)
        instance = await self.deploy_and_wait(spec, until, deadline, "terminate")
        try:
            yield instance
        finally:
            await self._custodian.see_gone(instance.ref)

    async def _deploy(self, spec: Spec, deadline: float | None, on_failure: OnFailure) -> InstanceRef:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._deployer(self.resources[spec.kind], spec, orphan=on_failure)
        except TimeoutError as error:
            if not _is_deadline(error):
                raise
        raise WaitTimeoutError(f"{spec.kind} {spec.name} was not deployed in time")


def _is_deadline(error: TimeoutError) -> bool:
    """Whether it is `asyncio.timeout`'s own, not one of ours (NoReplyError is a TimeoutError, too)."""
    return type(error) is TimeoutError
