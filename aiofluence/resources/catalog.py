"""The catalogue: plans of the three kinds, one flat list of offers over them, and the default images.

Reads only; an offer becomes a spec by its own `to_spec`, and a spec an instance by `Instances.deploy`.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

import attrs

from ..convert import structure
from ..errors import ConfigError
from ..models.catalog import (
    ContainerPlan,
    DefaultImage,
    MachinePlanGroup,
    Offer,
    offers_from_containers,
    offers_from_machines,
)
from ..models.table import Table
from ..models.values import Kind
from ..protocol import Call, Replay
from ..transport import Transport

CONTAINER_PLANS: Final = Call("GET", "/gpu/plans/", replay=Replay.ALWAYS)
VM_PLANS: Final = Call("GET", "/gpu/plans/vms", replay=Replay.ALWAYS)
BAREMETAL_PLANS: Final = Call("GET", "/gpu/plans/baremetal", replay=Replay.ALWAYS)
DEFAULT_IMAGES: Final = Call("GET", "/gpu/default-images/", replay=Replay.ALWAYS)


@attrs.frozen
class _Groups:
    data: tuple[MachinePlanGroup, ...]


class Plans:
    """What can be rented at present, and for how much."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def containers(self) -> Table[ContainerPlan]:
        """The container plans.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return Table(structure(await self._transport.call(CONTAINER_PLANS), list[ContainerPlan]))

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
    ) -> Table[Offer]:
        """One flat list of what fits, over all kinds, cheapest first.

        Args:
            kind: `"container"`, `"vm"` or `"baremetal"`; None for all three.
            gpu: model, any case: `"a100"`, `"RTX 4090"`; `"l4"` does not find an `l40s`.
            gpu_count: exactly that many GPUs.
            location: two-letter country.
            max_hourly: highest price of one hour.

        Raises:
            ConfigError: an argument makes no sense; nothing was sent.
            FluenceError: a call failed, as in `aiofluence.errors`.
        """
        wanted = _kinds(kind)
        read_money(max_hourly)  # before anything is sent
        offers: list[Offer] = []
        if Kind.CONTAINER in wanted:
            offers += offers_from_containers(await self.containers())
        if Kind.VM in wanted:
            offers += offers_from_machines(Kind.VM, await self.vms())
        if Kind.BAREMETAL in wanted:
            offers += offers_from_machines(Kind.BAREMETAL, await self.baremetal())
        return choose_offers(offers, gpu=gpu, gpu_count=gpu_count, location=location, max_hourly=max_hourly)

    async def _groups(self, call: Call) -> Table[MachinePlanGroup]:
        return Table(structure(await self._transport.call(call), _Groups).data)


class Images:
    """The service's ready-made container images."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> Table[DefaultImage]:
        """All of them; `image.to_spec(...)` makes a spec of one.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        reply = await self._transport.call(DEFAULT_IMAGES)
        return Table(structure(reply, builtins.list[DefaultImage]))


def choose_offers(
    offers: Iterable[Offer],
    *,
    gpu: str | None = None,
    gpu_count: int | None = None,
    location: str | None = None,
    max_hourly: Decimal | float | str | None = None,
) -> Table[Offer]:
    """Those of `offers` that fit, cheapest first; the arguments are those of `Plans.find`.

    Raises:
        ConfigError: `max_hourly` is no amount.
    """
    ceiling = read_money(max_hourly)
    fitting = (
        offer
        for offer in offers
        if (gpu is None or _same_gpu(gpu, offer.gpu_model.model))
        and (gpu_count is None or offer.gpu_count == gpu_count)
        and (location is None or location.upper() in offer.locations)
        and (ceiling is None or offer.hourly <= ceiling)
    )
    return Table(sorted(fitting, key=lambda offer: (offer.hourly, offer.name, offer.plan_id)))


def _kinds(kind: Kind | str | None) -> tuple[Kind, ...]:
    if kind is None:
        return tuple(Kind)
    try:
        return (Kind(kind),)
    except ValueError:
        raise ConfigError(f"kind is {', '.join(Kind)} or None, not {kind!r}") from None


def read_money(amount: Decimal | float | str | None) -> Decimal | None:
    """`max_hourly` as it may be written, as Decimal.

    Raises:
        ConfigError: it is no amount.
    """
    if amount is None:
        return None
    try:
        money = Decimal(str(amount))
    except InvalidOperation:
        money = Decimal("nan")
    if not money.is_finite() or money < 0:
        raise ConfigError(f"max_hourly is an amount of money, not {amount!r}")
    return money


def _same_gpu(asked: str, model: str) -> bool:
    """Whole words count: `l4` is no `l40s`, and `a100` is an `a100-80gb`."""
    have = re.findall(r"[a-z0-9]+", model.lower())
    want = re.findall(r"[a-z0-9]+", asked.lower())
    return "".join(want) == "".join(have) or (bool(want) and set(want) <= set(have))
