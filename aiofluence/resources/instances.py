"""The verbs that all three kinds share: deploy, list, get, terminate.

Each is one line over the raw endpoints, except `deploy`, which is exactly once.
"""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeVar

from ..display.table import Table
from ..errors import ConfigError
from ..models.instances import Instance, InstanceRef, Referable, Summary
from ..models.specs import Spec
from ..models.values import Kind
from .endpoints import Endpoints

SpecT = TypeVar("SpecT", bound=Spec)
SummaryT = TypeVar("SummaryT", bound=Summary)
DetailT = TypeVar("DetailT", bound=Instance)


class ExactlyOnce(Protocol):
    """Deploys over raw endpoints so that no fault makes two instances: `lifecycle.deploy`."""

    async def __call__(self, endpoints: Endpoints, spec: Any) -> InstanceRef: ...


class Instances(Generic[SpecT, SummaryT, DetailT]):
    """The instances of one kind.

    Attributes:
        kind: kind of the instances.
    """

    def __init__(self, endpoints: Endpoints, exactly_once: ExactlyOnce) -> None:
        self.kind: Kind = endpoints.kind
        self._endpoints: Final = endpoints
        self._exactly_once: Final = exactly_once

    async def deploy(self, spec: SpecT) -> InstanceRef:
        """Deploy one instance, exactly once, and return as soon as it has an id; it is not ACTIVE yet.

        From here on it costs money. Cancelled before the id is known, the session ends the instance.

        Raises:
            ConfigError: the spec is for another kind; nothing was sent.
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service did refuse it (balance, plan, image).
            NotSentError: the request never left, in all attempts.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: any other refusal, as in `aiofluence.errors`.
        """
        if spec.kind is not self.kind:
            raise ConfigError(f"{type(spec).__name__} is for {spec.kind}, and this deploys {self.kind}")
        return await self._exactly_once(self._endpoints, spec)

    async def post(self, spec: SpecT) -> InstanceRef:
        """The bare endpoint: one POST, without the protocol that makes `deploy` safe.

        Raises:
            ConfigError: the spec is for another kind; nothing was sent.
            SpecError: the service would refuse the spec; nothing was sent.
            NoReplyError: no answer, so the instance may exist, and bill.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.post(spec)

    async def list(self) -> Table[SummaryT]:
        """Every instance of this kind the account ever had, ended and failed ones included.

        Rows that do not fit the contract are missing; the table's `left_out` has an error for each.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return await self._endpoints.table()

    async def get(self, id: str) -> DetailT:
        """One instance in full.

        Raises:
            NotFoundError: the account has no such instance.
            ConfigError: `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        detail: DetailT = self._endpoints.detail_of(await self._endpoints.get(id))
        return detail

    async def terminate(self, id: str) -> None:
        """End an ACTIVE instance; the service refunds what is reserved.

        Raises:
            NotActiveError: it is not ACTIVE (yet, or any more).
            NotFoundError: the account has no such instance.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        await self._endpoints.terminate(id)


def ref_of(instance: Referable) -> InstanceRef:
    """What names an instance, whatever object stands for it.

    Raises:
        ConfigError: nothing does, such as an id alone.
    """
    ref = getattr(instance, "ref", None)
    if not isinstance(ref, InstanceRef):
        wanted = (
            "an InstanceRef or an instance is wanted here, and an id alone goes to .containers and the like"
        )
        raise ConfigError(f"{wanted}: {str(instance)[:64]!r}")
    return ref
