"""The catalogue: plans of the three kinds, their flat list of offers, and the default images.

Reads only. `Offer.to_spec` makes a spec from an offer, and `Instances.deploy` an instance from a spec.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Final

from ..display.table import Table
from ..errors import ConfigError, FluenceError, PlanUnavailableError
from ..http.messages import Call, Retryable
from ..http.transport import Transport
from ..models.plans import (
    ContainerPlan,
    DefaultImage,
    MachinePlanGroup,
    Offer,
    offers_from_containers,
    offers_from_machines,
)
from ..models.specs import SizeLike
from ..models.values import Kind
from .offers import Wanted, why_nothing_fits
from .rows import read_table, warn_once

CONTAINER_PLANS: Final = Call("GET", "/gpu/plans/", retryable=Retryable.ALWAYS)
VM_PLANS: Final = Call("GET", "/gpu/plans/vms", retryable=Retryable.ALWAYS)
BAREMETAL_PLANS: Final = Call("GET", "/gpu/plans/baremetal", retryable=Retryable.ALWAYS)
DEFAULT_IMAGES: Final = Call("GET", "/gpu/default-images/", retryable=Retryable.ALWAYS)

_ROWS_IN_GROUPS: Final = ("availability_by_number", "options")


class Plans:
    """Available plans and their prices."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def containers(self) -> Table[ContainerPlan]:
        """Return the container plans.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return read_table(self._transport, await self._transport.call(CONTAINER_PLANS), ContainerPlan)

    async def vms(self) -> Table[MachinePlanGroup]:
        """Return the VM options, grouped by GPU model and number of GPUs, like the service's reply.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return await self._groups(VM_PLANS)

    async def baremetal(self) -> Table[MachinePlanGroup]:
        """Return the bare-metal options, grouped as in `vms`.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return await self._groups(BAREMETAL_PLANS)

    async def find(
        self,
        *,
        kind: Kind | str | None = None,
        gpu: str | None = None,
        gpu_count: int | None = None,
        location: str | None = None,
        max_hourly: Decimal | float | str | None = None,
        min_cpus: int | None = None,
        min_memory: SizeLike | None = None,
        min_storage: SizeLike | None = None,
        min_vram: SizeLike | None = None,
        provider: str | None = None,
    ) -> Table[Offer]:
        """Return a flat list of the offers that fit, from all kinds, cheapest first.

        Args:
            kind: `"container"`, `"vm"` or `"baremetal"`; None for all three.
            gpu: GPU model, in any case: `"a100"`, `"RTX 4090"`; `"l4"` does not find an `l40s`.
            gpu_count: exact number of GPUs.
            location: a whole location, a country (`"US"`, `"USA"`, `"Norway"`) or a glob (`"us-*"`). The
                country of a machine is inferred from its location if possible, as in `tokyo-japan-2`.
            max_hourly: maximum price per hour.
            min_cpus: minimum number of virtual CPUs.
            min_memory: minimum memory: `"32Gi"`, `"32GB"`, a `Size` or bytes. The cheapest plans have 1 GiB.
            min_storage: minimum storage, in the same forms as `min_memory`.
            min_vram: minimum memory of each GPU, in the same forms as `min_memory`.
            provider: provider of a machine, in any case: `"massed-compute"`. Container plans have none.

        Unreadable rows, and kinds whose plans could not be fetched, are left out. The table's `left_out` has
        the errors.

        Raises:
            ConfigError: an argument is invalid; names every invalid argument. Nothing was sent.
            FluenceError: the calls of all kinds failed. This is the first error, as in `aiofluence.errors`.
        """
        wanted = Wanted.of({name: given for name, given in locals().items() if name != "self"})
        offers = await self._for_rent(wanted.kind)
        return Table(wanted.choose(offers), left_out=offers.left_out)

    async def cheapest(
        self,
        *,
        kind: Kind | str | None = None,
        gpu: str | None = None,
        gpu_count: int | None = None,
        location: str | None = None,
        max_hourly: Decimal | float | str | None = None,
        min_cpus: int | None = None,
        min_memory: SizeLike | None = None,
        min_storage: SizeLike | None = None,
        min_vram: SizeLike | None = None,
        provider: str | None = None,
    ) -> Offer:
        """Return the cheapest offer that fits. The arguments are those of `find`.

        Raises:
            PlanUnavailableError: no offer fits. The text has names similar to the given ones, and the
                cheapest offer that fits without each single condition.
            ConfigError: as `find`.
            FluenceError: as `find`.
        """
        wanted = Wanted.of({name: given for name, given in locals().items() if name != "self"})
        offers = await self._for_rent(wanted.kind)
        fitting = wanted.choose(offers)
        if fitting:
            return fitting[0]
        if wanted.kind is not None:
            with contextlib.suppress(FluenceError):
                offers = await self._for_rent(None)  # so that offers of another kind can be suggested
        said = why_nothing_fits(offers, wanted)
        if offers.left_out:
            said += (
                f"\n{len(offers.left_out)} plans or kinds of plans could not be read: {offers.left_out[0]}"
            )
        raise PlanUnavailableError(said)

    async def _for_rent(self, kind: Kind | None) -> Table[Offer]:
        """Request the offers of one kind, or of all three for None.

        Raises:
            FluenceError: the calls of all kinds failed. This is the first error.
        """
        kinds = tuple(Kind) if kind is None else (kind,)
        offers: list[Offer] = []
        left_out: list[Exception] = []
        failed: list[FluenceError] = []
        for each in kinds:
            try:
                found, odd = await self._offers(each)
            except ConfigError:
                raise
            except FluenceError as error:
                failed.append(error)
                warn_once(self._transport, f"plans.find: {each}", f"left out, {type(error).__name__}")
            else:
                offers += found
                left_out += odd
        if len(failed) == len(kinds):
            raise failed[0]
        return Table(offers, left_out=[*failed, *left_out])

    async def _offers(self, kind: Kind) -> tuple[list[Offer], tuple[Exception, ...]]:
        """Request the offers of one kind, and return them with the errors of the unreadable rows."""
        if kind is Kind.CONTAINER:
            plans = await self.containers()
            return offers_from_containers(plans), plans.left_out
        groups = await (self.vms() if kind is Kind.VM else self.baremetal())
        return offers_from_machines(kind, groups), groups.left_out

    async def _groups(self, call: Call) -> Table[MachinePlanGroup]:
        answer = await self._transport.call(call)
        return read_table(self._transport, answer, MachinePlanGroup, field="data", nested=_ROWS_IN_GROUPS)


class Images:
    """The service's ready-made container images."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> Table[DefaultImage]:
        """Return all images. `image.to_spec(...)` makes a spec from an image.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        images = read_table(self._transport, await self._transport.call(DEFAULT_IMAGES), DefaultImage)
        self._transport.own_images.update(image.image for image in images)
        return images
