"""Plans, options and catalogues, and their JSON. `stock` contains the goods.

Plain data without behaviour over time. An unpublished id is derived from the slug, so the id is the same
in every run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias
from uuid import NAMESPACE_URL, uuid5

import attrs

Kind: TypeAlias = Literal["container", "vm", "baremetal"]
Json: TypeAlias = dict[str, Any]

CURRENCY = "USDC"
UPFRONT_HOURS = 3


@attrs.frozen
class PlanRow:
    """An offer: a container plan, or one option of a machine plan."""

    kind: Kind
    slug: str
    model: str
    vram_gi: int
    interface: str
    gpu_count: int
    vcpu: int
    memory_gi: int
    storage_gi: int
    hourly: Decimal
    locations: tuple[str, ...]
    provider: str = ""
    nvlink: bool = False
    os_options: tuple[str, ...] = ()
    upfront_hours: int = UPFRONT_HOURS
    published_id: str = ""

    @property
    def id(self) -> str:
        if self.published_id:
            return self.published_id
        return str(uuid5(NAMESPACE_URL, f"https://api.fluence.dev/gpu/{self.kind}/{self.slug}"))

    def gpu_json(self) -> Json:
        """Return the GPU in the form of every answer except a container plan."""
        return {
            "vendor": "nvidia",
            "model": self.model,
            "vram": f"{self.vram_gi}Gi",
            "interface": self.interface,
        }

    def supply_json(self) -> Json:
        return {
            "vcpu": {"count": self.vcpu},
            "memory": {"count": self.memory_gi, "units": "Gi"},
            "storage": {"count": self.storage_gi, "units": "Gi"},
            "gpu_count": self.gpu_count,
        }

    def pricing_json(self) -> Json:
        return {"hour": float(self.hourly), "upfront_hours": self.upfront_hours, "currency": CURRENCY}

    def plan_json(self) -> Json:
        """Return a container plan. The interface is in capitals only here."""
        return {
            "plan": {
                "id": self.id,
                "name": self.slug,
                "supply": self.supply_json(),
                "gpu_model": self.gpu_json() | {"interface": self.interface.upper()},
                "pricing": self.pricing_json(),
            },
            "attributes": {"location": list(self.locations)},
        }

    def option_json(self) -> Json:
        """Return one option of a machine plan. Deploys send its id as `plan_id`."""
        supply = self.supply_json()
        del supply["gpu_count"]
        return {
            "id": self.id,
            "location": self.locations[0],
            "provider": self.provider,
            **supply,
            "deployment_type": self.kind.upper(),
            "pricing": self.pricing_json(),
            "nvlink": self.nvlink,
            "os_options": list(self.os_options),
        }


@attrs.frozen
class Catalog:
    """All offers and default images, and the JSON of the four catalogue endpoints."""

    offers: dict[str, PlanRow]
    images: list[Json]

    @classmethod
    def of(cls, offers: Iterable[PlanRow], images: Iterable[Json] = ()) -> Catalog:
        return cls({offer.id: offer for offer in offers}, list(images))

    def find(self, kind: Kind = "container", gpu: str | None = None, gpu_count: int | None = None) -> PlanRow:
        """Return the cheapest offer of a kind, GPU model (`"h100"`) and GPU count.

        Raises:
            LookupError: there is no such offer.
        """
        found = [
            offer
            for offer in self.offers.values()
            if offer.kind == kind and gpu in (None, offer.model) and gpu_count in (None, offer.gpu_count)
        ]
        if not found:
            raise LookupError(f"no {kind} offer with gpu={gpu!r} and gpu_count={gpu_count!r}")
        return min(found, key=lambda offer: offer.hourly)

    def container_plans(self, sold_out: Collection[str] = ()) -> list[Json]:
        return [offer.plan_json() for offer in self._on_sale("container", sold_out)]

    def machine_plans(self, kind: Kind, sold_out: Collection[str] = ()) -> Json:
        """Return the options grouped by GPU, then by number of GPUs, in the order of the catalogue."""
        by_gpu: dict[tuple[str, int, str], dict[int, list[PlanRow]]] = {}
        for offer in self._on_sale(kind, sold_out):
            gpu = by_gpu.setdefault((offer.model, offer.vram_gi, offer.interface), {})
            gpu.setdefault(offer.gpu_count, []).append(offer)
        return {"data": [_group_json(by_count) for by_count in by_gpu.values()]}

    def _on_sale(self, kind: Kind, sold_out: Collection[str]) -> Iterable[PlanRow]:
        return (o for o in self.offers.values() if o.kind == kind and o.id not in sold_out)


def _group_json(by_count: dict[int, list[PlanRow]]) -> Json:
    everything = [offer for options in by_count.values() for offer in options]
    return {
        "gpu_model": everything[0].gpu_json(),
        "minimum_price": float(min(offer.hourly for offer in everything)),
        "availability_by_number": [
            _count_json(count, options) for count, options in sorted(by_count.items())
        ],
    }


def _count_json(gpu_count: int, options: Sequence[PlanRow]) -> Json:
    places = {(offer.provider, offer.locations[0]) for offer in options}
    providers = sorted({provider for provider, _ in places})
    return {
        "gpu_count": gpu_count,
        "minimum_price": float(min(offer.hourly for offer in options)),
        "options_available_total": len(options),
        "providers_available_total": len(providers),
        "data_center_available_total": len(places),
        "locations": sorted({location for _, location in places}),
        "providers": providers,
        "options": [offer.option_json() for offer in options],
    }
