"""The catalogue: plans of the three kinds, one flat list of offers over them, and the default images.

Reads only; an offer becomes a spec by its own `to_spec`, and a spec an instance by `Instances.deploy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from ..errors import ConfigError, FluenceError
from ..models.catalog import (
    ContainerPlan,
    DefaultImage,
    MachinePlanGroup,
    Offer,
    offers_from_containers,
    offers_from_machines,
)
from ..models.money import MOST, read_amount
from ..models.table import Table
from ..models.values import Kind
from ..protocol import Call, Replay
from ..transport import Transport
from .rows import read_table, warn_once

CONTAINER_PLANS: Final = Call("GET", "/gpu/plans/", replay=Replay.ALWAYS)
VM_PLANS: Final = Call("GET", "/gpu/plans/vms", replay=Replay.ALWAYS)
BAREMETAL_PLANS: Final = Call("GET", "/gpu/plans/baremetal", replay=Replay.ALWAYS)
DEFAULT_IMAGES: Final = Call("GET", "/gpu/default-images/", replay=Replay.ALWAYS)

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
    ) -> Table[Offer]:
        """One flat list of what fits, over all kinds, cheapest first.

        Args:
            kind: `"container"`, `"vm"` or `"baremetal"`; None for all three.
            gpu: model, any case: `"a100"`, `"RTX 4090"`; `"l4"` does not find an `l40s`.
            gpu_count: exactly that many GPUs.
            location: two-letter country.
            max_hourly: highest price of one hour.

        A row that cannot be read, or a kind whose plans cannot be had, is missing from the table: its
        `left_out` has the errors.

        Raises:
            ConfigError: an argument makes no sense; nothing was sent.
            FluenceError: the calls of all kinds failed; this is the first error, as in `aiofluence.errors`.
        """
        wanted = _check_find(kind, gpu, gpu_count, location, max_hourly)
        offers: list[Offer] = []
        left_out: list[Exception] = []
        failed: list[FluenceError] = []
        for each in wanted:
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
        if len(failed) == len(wanted):
            raise failed[0]
        fitting = choose_offers(
            offers, gpu=gpu, gpu_count=gpu_count, location=location, max_hourly=max_hourly
        )
        return Table(fitting, left_out=[*failed, *left_out])

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
        return read_table(self._transport, await self._transport.call(DEFAULT_IMAGES), DefaultImage)


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


def _check_find(
    kind: object, gpu: object, gpu_count: object, location: object, max_hourly: Decimal | float | str | None
) -> tuple[Kind, ...]:
    """The kinds to ask for.

    Raises:
        ConfigError: naming every argument that makes no sense.
    """
    problems = []
    if kind is not None and kind not in tuple(Kind):
        problems.append(f"kind is {', '.join(Kind)} or None, not {_quoted(kind)}")
    for name, text in (("gpu", gpu), ("location", location)):
        if text is not None and not isinstance(text, str):
            problems.append(f"{name} is a text, not {_quoted(text)}")
    if gpu_count is not None and (type(gpu_count) is not int or gpu_count < 1):
        problems.append(f"gpu_count is a whole number from 1, not {_quoted(gpu_count)}")
    try:
        read_money(max_hourly)
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    return tuple(Kind) if kind is None else (Kind(str(kind)),)


def read_money(amount: Decimal | float | str | None) -> Decimal | None:
    """`max_hourly` as it may be written, as Decimal.

    Raises:
        ConfigError: it is no amount.
    """
    if amount is None:
        return None
    try:
        return read_amount(amount.strip() if isinstance(amount, str) else amount)
    except ValueError:
        problem = f"max_hourly is an amount of money from 0 to {MOST}, not {_quoted(amount)}"
    raise ConfigError(problem)


def _quoted(given: object) -> str:
    """The repr of an argument, cut short; the type of one that is too long to write."""
    try:
        text = repr(given)
    except ValueError:  # an integer of more than 4300 digits
        return type(given).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def _same_gpu(asked: str, model: str) -> bool:
    """Whole words count: `l4` is no `l40s`, and `a100` is an `a100-80gb`."""
    have = re.findall(r"[a-z0-9]+", model.lower())
    want = re.findall(r"[a-z0-9]+", asked.lower())
    return "".join(want) == "".join(have) or (bool(want) and set(want) <= set(have))
