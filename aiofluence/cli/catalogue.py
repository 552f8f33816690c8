"""`plans` and `images`: what can be rented, and what the service can run on it.

They read the catalogue and change nothing.
"""

from __future__ import annotations

from typing import Annotated

import typer

import aiofluence

from .exits import USAGE, CommandError
from .options import JsonOption, KindOption
from .output import note, print_json, print_table
from .running import execute
from .shapes import image_shape, offer_shape


def plans(
    kind: KindOption = None,
    gpu: Annotated[str | None, typer.Option(metavar="MODEL", help="Such as h100 or 'RTX 4090'.")] = None,
    gpu_count: Annotated[int | None, typer.Option(min=0, metavar="N", help="Exactly that many GPUs.")] = None,
    location: Annotated[str | None, typer.Option(metavar="CC", help="Two-letter country.")] = None,
    max_hourly: Annotated[str | None, typer.Option(metavar="USDC", help="Highest price of one hour.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the cheapest N.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What can be rented, cheapest first."""

    async def show(fluence: aiofluence.Session) -> None:
        if location is not None and not (len(location) == 2 and location.isalpha()):
            raise CommandError(f"--location: {location!r} is not a two-letter country code", USAGE)
        offers = await fluence.plans.find(
            kind=kind, gpu=gpu, gpu_count=gpu_count, location=location, max_hourly=max_hourly
        )
        offers = offers[:limit]
        if as_json:
            print_json([offer_shape(offer) for offer in offers])
        elif offers:
            print_table(
                ("KIND", "GPU", "VRAM", "CPUS", "MEMORY", "USDC/H", "UPFRONT", "WHERE", "PLAN"),
                [
                    (
                        offer.kind,
                        f"{offer.gpu_count}x {offer.gpu_model.model}",
                        str(offer.gpu_model.vram),
                        str(offer.vcpu),
                        str(offer.memory),
                        f"{offer.hourly:f}",
                        f"{offer.upfront:f}",
                        " ".join(offer.locations),
                        offer.plan_id,
                    )
                    for offer in offers
                ],
                right=(2, 3, 4, 5, 6),
            )
        else:
            note("Nothing for rent fits.")

    execute(show)


def images(as_json: JsonOption = False) -> None:
    """The service's ready-made container images.

    Their slugs are good for `deploy --image`.
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
