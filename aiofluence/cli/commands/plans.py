"""`gpus`, `plans`, `images` and `account`: the catalogue, the balance, and the permissions of the key.

These commands change nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import aiofluence

from ..arguments import Option, at_least
from ..console import Column, note, print_fields, print_json, print_table
from ..json_output import balance_shape, gpu_shape, image_shape, offer_shape
from ..lookup import SHOWN
from ..options import (
    JsonOption,
    KindOption,
    LocationOption,
    MinCpusOption,
    MinMemoryOption,
    MinStorageOption,
    MinVramOption,
    ProviderOption,
    WideOption,
)
from ..runner import execute

_T = TypeVar("_T")


Sorting: TypeAlias = Literal["price", "vram", "memory", "cpus", "storage", "gpu", "location"]
GpuOption: TypeAlias = Annotated[
    str | None, Option(metavar="MODEL", help="Such as h100 or 'RTX 4090'.", complete="gpu")
]

_KEYS: Final[Mapping[str, Callable[[aiofluence.Offer], Any]]] = {
    "price": lambda offer: offer.hourly,
    "vram": lambda offer: -offer.gpu_model.vram.bytes * offer.gpu_count,
    "memory": lambda offer: -offer.memory.bytes,
    "cpus": lambda offer: -offer.vcpu,
    "storage": lambda offer: -offer.storage.bytes,
    "gpu": lambda offer: (offer.gpu_model.model, offer.gpu_count),
    "location": lambda offer: sorted(offer.locations),
}
_AMOUNTS: Final = ("balance", "usage", "estimated_usage", "overage", "total_deposited")
_PLAN_COLUMNS: Final = (
    Column("GPU"),
    Column("VRAM", right=True),
    Column("CPUS", right=True, drop=2),
    Column("MEM", right=True, drop=3),
    Column("DISK", right=True, drop=4),
    Column("USDC/H", right=True),
    Column("UPFRONT", right=True, wide=True),
    Column("KIND", drop=1),
    Column("WHERE", fold=True),
    Column("PROVIDER", wide=True),
    Column("PLAN"),
)


def plans(
    kind: KindOption = None,
    gpu: GpuOption = None,
    gpu_count: Annotated[
        int | None, Option(parser=at_least(0), metavar="N", help="Exactly that many GPUs.")
    ] = None,
    location: LocationOption = None,
    max_hourly: Annotated[str | None, Option(metavar="USDC", help="Highest price of one hour.")] = None,
    min_cpus: MinCpusOption = None,
    min_memory: MinMemoryOption = None,
    min_storage: MinStorageOption = None,
    min_vram: MinVramOption = None,
    provider: ProviderOption = None,
    sort: Annotated[
        Sorting, Option("--sort", "-s", help="Order: price is ascending, sizes are descending.")
    ] = "price",
    limit: Annotated[int | None, Option(parser=at_least(1), metavar="N", help="Only the first N.")] = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print what can be rented, cheapest first.

    Sizes are GiB, VRAM is that of one GPU. If nothing fits, print what would fit, and exit with code 1.

    Examples:
        aiofluence plans --gpu rtx4090 --location EU
        aiofluence plans --min-vram 80Gi --kind container --sort vram
    """
    wanted: dict[str, Any] = {
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

    async def show(fluence: aiofluence.Session) -> None:
        offers = sorted(await _offers(fluence, wanted, as_json), key=_KEYS[sort])[:limit]
        if as_json:
            print_json([offer_shape(offer) for offer in offers])
            return
        print_table(
            _PLAN_COLUMNS,
            [
                (
                    f"{offer.gpu_count}x {offer.gpu_model.model}",
                    _gib(offer.gpu_model.vram),
                    str(offer.vcpu),
                    _gib(offer.memory),
                    _gib(offer.storage),
                    f"{offer.hourly:f}",
                    f"{offer.upfront:f}",
                    offer.kind,
                    " ".join(offer.locations),
                    offer.provider or "",
                    offer.plan_id if wide else offer.plan_id[:SHOWN],
                )
                for offer in offers
            ],
            wide=wide,
        )

    execute(show)


async def _offers(
    fluence: aiofluence.Session, wanted: Mapping[str, Any], as_json: bool
) -> Sequence[aiofluence.Offer]:
    """Return the offers that fit.

    Raises:
        PlanUnavailableError: there is none. Its text lists those that would fit.
    """
    offers = await fluence.plans.find(**wanted)
    if offers:
        return offers
    try:
        return [await fluence.plans.cheapest(**wanted)]
    except aiofluence.PlanUnavailableError:
        if as_json:
            print_json([])
        raise


def _gib(size: aiofluence.Size) -> str:
    return f"{size.gib:g}"


def gpus(
    kind: KindOption = None,
    gpu: GpuOption = None,
    location: LocationOption = None,
    min_vram: MinVramOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the GPU types that can be rented, with the lowest price of one GPU.

    VRAM is GiB. FROM is USDC an hour for one GPU, in its cheapest plan. SIZES are numbers of GPUs.

    Examples:
        aiofluence gpus --min-vram 48Gi
    """
    wanted = {"kind": kind, "gpu": gpu, "location": location, "min_vram": min_vram}

    async def show(fluence: aiofluence.Session) -> None:
        by_gpu: dict[tuple[str, int], list[aiofluence.Offer]] = {}
        for offer in await _offers(fluence, wanted, as_json):
            if offer.gpu_count:
                by_gpu.setdefault((offer.gpu_model.model, offer.gpu_model.vram.bytes), []).append(offer)
        shapes = sorted(
            (gpu_shape(offers) for offers in by_gpu.values()), key=lambda one: Decimal(one["from"])
        )
        if as_json:
            print_json(shapes)
            return
        print_table(
            (
                Column("GPU"),
                Column("VRAM", right=True),
                Column("FROM", right=True),
                Column("OFFERS", right=True, drop=3),
                Column("SIZES", drop=2),
                Column("KINDS", drop=1),
                Column("WHERE", fold=True),
            ),
            [
                (
                    one["model"],
                    f"{one['vram_gib']:g}",
                    one["from"],
                    str(one["offers"]),
                    " ".join(map(str, one["counts"])),
                    " ".join(one["kinds"]),
                    " ".join(one["locations"]),
                )
                for one in shapes
            ],
            wide=wide,
        )

    execute(show)


def images(wide: WideOption = False, as_json: JsonOption = False) -> None:
    """Print the service's ready-made container images.

    `deploy --image` accepts their slugs.
    """

    async def show(fluence: aiofluence.Session) -> None:
        found = await fluence.images.list()
        if as_json:
            print_json([image_shape(image) for image in found])
            return
        print_table(
            (Column("SLUG"), Column("PORTS", drop=2), Column("SSH KEY", drop=1), Column("IMAGE", fold=True)),
            [
                (
                    image.slug,
                    " ".join(map(str, image.expose)),
                    "needed" if image.requires_ssh else "",
                    image.image,
                )
                for image in found
            ],
            wide=wide,
        )

    execute(show)


def account(as_json: JsonOption = False) -> None:
    """Print the account's balance and the key's permissions."""

    async def show(fluence: aiofluence.Session) -> None:
        balance = await _or_error(fluence.account.balance())
        permissions = await _or_error(fluence.account.permissions())
        errors = [found for found in (balance, permissions) if isinstance(found, aiofluence.FluenceError)]
        if len(errors) == 2:
            raise errors[0]
        if as_json:
            print_json(
                {
                    "balance": balance_shape(balance) if isinstance(balance, aiofluence.Balance) else None,
                    "permissions": list(permissions) if isinstance(permissions, tuple) else None,
                }
            )
        else:
            fields: list[tuple[str, str]] = []
            if isinstance(balance, aiofluence.Balance):
                fields += [
                    (name.replace("_", " "), f"{value} USDC" if name in _AMOUNTS else value)
                    for name, value in balance_shape(balance).items()
                    if value is not None
                ]
            if isinstance(permissions, tuple):
                fields.append(("permissions", " ".join(permissions) or "none"))
            print_fields(fields)
        for error in errors:
            note(f"not known: {error}")

    execute(show)


async def _or_error(asked: Awaitable[_T]) -> _T | aiofluence.FluenceError:
    try:
        return await asked
    except aiofluence.FluenceError as error:
        return error
