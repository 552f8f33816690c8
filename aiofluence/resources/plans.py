"""The catalogue: plans of the three kinds, one flat list of offers over them, and the default images.

Reads only; an offer becomes a spec by its own `to_spec`, and a spec an instance by `Instances.deploy`.
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
from ..models.values import Kind
from .offers import SizeLike, Wanted, why_nothing_fits
from .rows import read_table, warn_once

CONTAINER_PLANS: Final = Call("GET", "/gpu/plans/", retryable=Retryable.ALWAYS)
VM_PLANS: Final = Call("GET", "/gpu/plans/vms", retryable=Retryable.ALWAYS)
BAREMETAL_PLANS: Final = Call("GET", "/gpu/plans/baremetal", retryable=Retryable.ALWAYS)
DEFAULT_IMAGES: Final = Call("GET", "/gpu/default-images/", retryable=Retryable.ALWAYS)

_ROWS_IN_GROUPS: Final = ("availability_by_number", "options")


class Plans:
    """What can be rented at present, and for how much."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def containers(self) -> Table[ContainerPlan]:
        """The container plans.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return read_table(self._transport, await self._transport.call(CONTAINER_PLANS), ContainerPlan)

    async def vms(self) -> Table[MachinePlanGroup]:
        """The VM options, grouped by GPU model and by number of GPUs, as the wire groups them.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return await self._groups(VM_PLANS)

    async def baremetal(self) -> Table[MachinePlanGroup]:
        """The bare-metal options, grouped as `vms`.

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
        """One flat list of what fits, over all kinds, cheapest first.

        Args:
            kind: `"container"`, `"vm"` or `"baremetal"`; None for all three.
            gpu: model, any case: `"a100"`, `"RTX 4090"`; `"l4"` does not find an `l40s`.
            gpu_count: exactly that many GPUs.
            location: a whole location, a country (`"US"`, `"USA"`, `"Norway"`) or a glob (`"us-*"`).
                A machine's country is read from its location where the text allows it, as in `tokyo-japan-2`.
            max_hourly: highest price of one hour.
            min_cpus: least number of virtual CPUs.
            min_memory: least memory: `"32Gi"`, `"32GB"`, a `Size` or bytes. The cheapest plans have 1 GiB.
            min_storage: least storage, written as `min_memory`.
            min_vram: least memory of each GPU, written as `min_memory`.
            provider: provider of a machine, any case: `"massed-compute"`. Container plans name none.

        A row that cannot be read, or a kind whose plans cannot be had, is missing from the table: its
        `left_out` has the errors.

        Raises:
            ConfigError: an argument makes no sense; names every such argument, and nothing was sent.
            FluenceError: the calls of all kinds failed; this is the first error, as in `aiofluence.errors`.
        """
        wanted = Wanted.of(
            {
                "kind": kind,
                "gpu": gpu,
                "gpu_count": gpu_count,
                "location": location,
                "max_hourly": max_hourly,
                "min_cpus": min_cpus,
                "min_memory": min_memory,
                "min_storage": min_storage,
                "min_vram": min_vram,
                "provider": provider,
            }
        )
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
        """The cheapest offer that fits; the arguments are those of `find`.

        Raises:
            PlanUnavailableError: nothing fits. Its text has the names that come close to those given, and
                the cheapest offer that fits without each one of the conditions.
            ConfigError: as `find`.
            FluenceError: as `find`.
        """
        wanted = Wanted.of(
            {
                "kind": kind,
                "gpu": gpu,
                "gpu_count": gpu_count,
                "location": location,
                "max_hourly": max_hourly,
                "min_cpus": min_cpus,
                "min_memory": min_memory,
                "min_storage": min_storage,
                "min_vram": min_vram,
                "provider": provider,
            }
        )
        offers = await self._for_rent(wanted.kind)
        fitting = wanted.choose(offers)
        if fitting:
            return fitting[0]
        if wanted.kind is not None:
            with contextlib.suppress(FluenceError):
                offers = await self._for_rent(None)  # what another kind has is worth a suggestion
        said = why_nothing_fits(offers, wanted)
        if offers.left_out:
            said += (
                f"\n{len(offers.left_out)} plans or kinds of plans could not be read: {offers.left_out[0]}"
            )
        raise PlanUnavailableError(said)

    async def _for_rent(self, kind: Kind | None) -> Table[Offer]:
        """The offers of one kind, of all three for None.

        Raises:
            FluenceError: the calls of all kinds failed; this is the first error.
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
        """The offers of one kind, and the errors of the rows that could not be read."""
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
        """All of them; `image.to_spec(...)` makes a spec of one.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        images = read_table(self._transport, await self._transport.call(DEFAULT_IMAGES), DefaultImage)
        self._transport.own_images.update(image.image for image in images)
        return images
