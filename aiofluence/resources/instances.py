"""The verbs that all three kinds share: deploy, list, get, terminate.

Each method is one line over the raw endpoints. Only `deploy` does more: it deploys exactly once.
"""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeVar

from ..display.table import Table
from ..errors import ConfigError, NotFoundError
from ..models.instances import Instance, InstanceRef, Referable, Summary
from ..models.specs import Spec
from ..models.values import Kind
from .endpoints import Endpoints

SpecT = TypeVar("SpecT", bound=Spec)
SummaryT = TypeVar("SummaryT", bound=Summary)
DetailT = TypeVar("DetailT", bound=Instance)


class ExactlyOnce(Protocol):
    """Protocol of a deploy that creates exactly one instance despite faults: `lifecycle.deploy`."""

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
        """Deploy one instance exactly once. Return its ref as soon as it has an id, before it is ACTIVE.

        The instance costs money from then on. If the call is cancelled before the id is known, the session
        ends the instance.

        Raises:
            ConfigError: the spec is for another kind; nothing was sent.
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service refused the spec (balance, plan, image).
            NotSentError: the request could not be sent, in all attempts.
            UncertainDeployError: the session could not find out if the instance was deployed.
            FluenceError: any other refusal, as in `aiofluence.errors`.
        """
        self._endpoints.check_kind(spec)
        return await self._exactly_once(self._endpoints, spec)

    async def post(self, spec: SpecT) -> InstanceRef:
        """Send one bare POST, without the exactly-once protocol of `deploy`.

        Raises:
            ConfigError: the spec is for another kind; nothing was sent.
            SpecError: the service would refuse the spec; nothing was sent.
            NoReplyError: no reply came, so the instance may exist, and be billing.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.post(spec)

    async def list(self, *, live: bool = False) -> Table[SummaryT]:
        """Return every instance of this kind that the account ever had, including ended and failed ones.

        Rows that do not fit the contract are left out. The table's `left_out` has an error for each.

        Args:
            live: leave out ended and failed instances.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        table: Table[SummaryT] = await self._endpoints.table()
        if not live:
            return table
        return Table((row for row in table if not row.status.final), at=table.at, left_out=table.left_out)

    async def get(self, id: str | None = None, *, name: str | None = None) -> DetailT:
        """Return the detail of one instance, by its id or by the name of a live instance.

        Args:
            id: id of the instance.
            name: name of the instance, instead of its id. Costs one LIST more.

        Raises:
            NotFoundError: the account has no such instance, or several live instances have that name.
            ConfigError: `id` is not an id, or not exactly one argument is given.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        if (id is None) == (name is None):
            raise ConfigError("give the id or the name of one instance; nothing was sent")
        if id is None:
            named = [row for row in await self.list(live=True) if row.name == name]
            if len(named) != 1:
                several = f"; their ids: {', '.join(row.id for row in named)}" if named else ""
                raise NotFoundError(f"{len(named)} live {self.kind}s are called {name!r}{several}")
            id = named[0].id
        detail: DetailT = self._endpoints.detail_of(await self._endpoints.get(id))
        return detail

    async def terminate(self, id: str) -> None:
        """End an ACTIVE instance. The service refunds the reserved amount.

        Raises:
            NotActiveError: the instance is not ACTIVE yet, or no longer.
            NotFoundError: the account has no such instance.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        await self._endpoints.terminate(id)


def ref_of(instance: Referable) -> InstanceRef:
    """Return the ref of an instance object, or a ref unchanged.

    Raises:
        ConfigError: the argument is neither, such as an id alone.
    """
    ref = getattr(instance, "ref", None)
    if not isinstance(ref, InstanceRef):
        wanted = "expected a ref or an instance object; an id alone needs .containers, .vms or .baremetal"
        raise ConfigError(f"{wanted}: {str(instance)[:64]!r}")
    return ref
