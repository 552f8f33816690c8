"""`plans`, `images` and `account`: the catalogue, the balance, and the permissions of the key.

These commands change nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, TypeVar

import typer

import aiofluence

from ..console import note, print_fields, print_json, print_table
from ..json_output import balance_shape, image_shape, offer_shape
from ..options import (
    JsonOption,
    KindOption,
    LocationOption,
    MinCpusOption,
    MinMemoryOption,
    MinStorageOption,
    MinVramOption,
    ProviderOption,
)
from ..runner import execute

_T = TypeVar("_T")


def plans(
    kind: KindOption = None,
    gpu: Annotated[str | None, typer.Option(metavar="MODEL", help="Such as h100 or 'RTX 4090'.")] = None,
    gpu_count: Annotated[int | None, typer.Option(min=0, metavar="N", help="Exactly that many GPUs.")] = None,
    location: LocationOption = None,
    max_hourly: Annotated[str | None, typer.Option(metavar="USDC", help="Highest price of one hour.")] = None,
    min_cpus: MinCpusOption = None,
    min_memory: MinMemoryOption = None,
    min_storage: MinStorageOption = None,
    min_vram: MinVramOption = None,
    provider: ProviderOption = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the cheapest N.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what can be rented, cheapest first.

    If nothing fits, print what would fit, and exit with code 1.
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
        offers: Sequence[aiofluence.Offer] = await fluence.plans.find(**wanted)
        if not offers:
            try:
                offers = [await fluence.plans.cheapest(**wanted)]
            except aiofluence.PlanUnavailableError:  # its text lists the plans that would fit
                if as_json:
                    print_json([])
                raise
        offers = offers[:limit]
        if as_json:
            print_json([offer_shape(offer) for offer in offers])
        else:
            print_table(
                (
                    "KIND",
                    "GPU",
                    "VRAM",
                    "CPUS",
                    "MEMORY",
                    "DISK",
                    "USDC/H",
                    "UPFRONT",
                    "WHERE",
                    "PROVIDER",
                    "PLAN",
                ),
                [
                    (
                        offer.kind,
                        f"{offer.gpu_count}x {offer.gpu_model.model}",
                        str(offer.gpu_model.vram),
                        str(offer.vcpu),
                        str(offer.memory),
                        str(offer.storage),
                        f"{offer.hourly:f}",
                        f"{offer.upfront:f}",
                        " ".join(offer.locations),
                        offer.provider or "",
                        offer.plan_id,
                    )
                    for offer in offers
                ],
                right=(2, 3, 4, 5, 6, 7),
            )

    execute(show)


def images(as_json: JsonOption = False) -> None:
    """Print the service's ready-made container images.

    `deploy --image` accepts their slugs.
    """

    async def show(fluence: aiofluence.Session) -> None:
        found = await fluence.images.list()
        if as_json:
            print_json([image_shape(image) for image in found])
        else:
            print_table(
                ("SLUG", "PORTS", "SSH KEY", "IMAGE"),
                [
                    (
                        image.slug,
                        " ".join(map(str, image.expose)),
                        "needed" if image.requires_ssh else "",
                        image.image,
                    )
                    for image in found
                ],
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
                    (name.replace("_", " "), str(amount))
                    for name, amount in balance_shape(balance).items()
                    if amount is not None
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
