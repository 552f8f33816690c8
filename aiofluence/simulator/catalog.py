"""What the simulated service sells: plans, options, operating systems and default images.

Plain data and its JSON shapes, no behaviour over time. Models, prices and places are believable,
not the service's current ones. Every id is derived from its slug, so it is the same in each run.
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
class Offer:
    """One thing that can be deployed: a container plan, or one option of a machine plan."""

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

    @property
    def id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"https://api.fluence.dev/gpu/{self.kind}/{self.slug}"))

    def gpu_json(self) -> Json:
        """The GPU as every answer but a container plan writes it."""
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
        """A container plan; here, and only here, the interface is in capitals."""
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
        """One option of a machine plan; its id is sent as `plan_id`."""
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
    """All offers and default images, with the JSON of the four catalogue endpoints."""

    offers: dict[str, Offer]
    images: list[Json]

    @classmethod
    def of(cls, offers: Iterable[Offer], images: Iterable[Json] = ()) -> Catalog:
        return cls({offer.id: offer for offer in offers}, list(images))

    def find(self, kind: Kind = "container", gpu: str | None = None, gpu_count: int | None = None) -> Offer:
        """The cheapest offer of that kind, GPU model (`"h100"`) and GPU count.

        Raises:
            LookupError: there is none.
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
        """Options grouped by GPU, then by number of GPUs, in the order of the catalogue."""
        by_gpu: dict[tuple[str, int, str], dict[int, list[Offer]]] = {}
        for offer in self._on_sale(kind, sold_out):
            gpu = by_gpu.setdefault((offer.model, offer.vram_gi, offer.interface), {})
            gpu.setdefault(offer.gpu_count, []).append(offer)
        return {"data": [_group_json(by_count) for by_count in by_gpu.values()]}

    def _on_sale(self, kind: Kind, sold_out: Collection[str]) -> Iterable[Offer]:
        return (o for o in self.offers.values() if o.kind == kind and o.id not in sold_out)


def _group_json(by_count: dict[int, list[Offer]]) -> Json:
    everything = [offer for options in by_count.values() for offer in options]
    return {
        "gpu_model": everything[0].gpu_json(),
        "minimum_price": float(min(offer.hourly for offer in everything)),
        "availability_by_number": [
            _count_json(count, options) for count, options in sorted(by_count.items())
        ],
    }


def _count_json(gpu_count: int, options: Sequence[Offer]) -> Json:
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


# model, vram Gi, interface, GPUs, vCPUs, memory Gi, storage Gi, USDC an hour, countries
_CONTAINERS: tuple[tuple[str, int, str, int, int, int, int, str, str], ...] = (
    ("b200", 180, "sxm", 1, 24, 180, 200, "3.85", "US"),
    ("h200", 141, "sxm", 1, 16, 128, 120, "2.56", "US NO CA"),
    ("h200", 141, "sxm", 8, 128, 1024, 960, "20.48", "US NO"),
    ("h100", 80, "sxm", 1, 16, 128, 120, "1.87", "US FI NL"),
    ("h100", 80, "sxm", 8, 128, 1024, 960, "14.96", "US FI"),
    ("h100", 80, "pcie", 1, 16, 96, 120, "1.62", "US GB"),
    ("a100", 80, "sxm", 1, 12, 96, 100, "1.24", "US DE"),
    ("a100", 40, "pcie", 1, 12, 64, 100, "0.86", "US PL"),
    ("l40s", 48, "pcie", 1, 8, 64, 100, "0.88", "US SE"),
    ("l40", 48, "pcie", 1, 8, 64, 100, "0.74", "US"),
    ("l4", 24, "pcie", 1, 4, 32, 60, "0.43", "US IE"),
    ("rtx5090", 32, "pcie", 1, 8, 48, 100, "0.69", "US BG"),
    ("rtx4090", 24, "pcie", 1, 8, 32, 80, "0.44", "US UA PL BG"),
    ("rtx4090", 24, "pcie", 4, 32, 128, 320, "1.76", "US PL"),
    ("rtxa6000", 48, "pcie", 1, 8, 48, 80, "0.49", "US FR"),
    ("rtxa5000", 24, "pcie", 1, 6, 32, 60, "0.26", "US"),
    ("v100", 16, "sxm", 1, 6, 32, 60, "0.22", "DE"),
    ("t4", 16, "pcie", 1, 4, 16, 40, "0.14", "US SG"),
)

_OS = {
    "Hyperstack": ("Ubuntu Server 22.04 LTS R550 CUDA 12.4", "Ubuntu Server 24.04 LTS R570 CUDA 12.8"),
    "Massed Compute": ("ubuntu-22.04", "ubuntu-22.04-cuda-12.4", "debian-12"),
    "Lambda": ("ubuntu-22.04-lambda-stack", "ubuntu-24.04-lambda-stack"),
    "Voltage Park": ("ubuntu-22.04", "ubuntu-24.04"),
    "Latitude": ("ubuntu-22.04", "ubuntu-24.04", "rocky-9"),
}

# model, vram Gi, interface, GPUs, country, provider, vCPUs, memory Gi, storage Gi, USDC an hour, nvlink
_MachineRow: TypeAlias = tuple[str, int, str, int, str, str, int, int, int, str, bool]

_VMS: tuple[_MachineRow, ...] = (
    ("h200", 141, "sxm", 1, "US", "Lambda", 24, 225, 1024, "3.12", False),
    ("h100", 80, "sxm", 1, "US", "Lambda", 26, 225, 2816, "2.49", False),
    ("h100", 80, "sxm", 1, "NO", "Hyperstack", 24, 185, 850, "2.39", False),
    ("h100", 80, "sxm", 8, "US", "Lambda", 208, 1800, 22528, "19.92", True),
    ("h100", 80, "pcie", 1, "CA", "Hyperstack", 28, 180, 850, "1.95", False),
    ("h100", 80, "pcie", 4, "CA", "Hyperstack", 124, 720, 3300, "7.80", True),
    ("a100", 80, "pcie", 1, "CA", "Hyperstack", 28, 120, 850, "1.38", False),
    ("a100", 80, "pcie", 1, "US", "Massed Compute", 14, 64, 625, "1.32", False),
    ("a100", 80, "pcie", 8, "CA", "Hyperstack", 252, 1440, 6600, "11.04", True),
    ("a100", 40, "sxm", 1, "US", "Lambda", 30, 200, 512, "1.29", False),
    ("l40s", 48, "pcie", 1, "US", "Massed Compute", 16, 64, 625, "0.92", False),
    ("l40", 48, "pcie", 1, "NO", "Hyperstack", 28, 58, 850, "1.02", False),
    ("rtxa6000", 48, "pcie", 1, "US", "Massed Compute", 6, 48, 256, "0.54", False),
    ("rtxa6000", 48, "pcie", 2, "US", "Massed Compute", 12, 96, 512, "1.08", True),
    ("rtxa5000", 24, "pcie", 1, "US", "Massed Compute", 10, 48, 256, "0.41", False),
    ("v100", 16, "sxm", 8, "US", "Lambda", 88, 448, 5900, "4.40", True),
)

_BAREMETAL: tuple[_MachineRow, ...] = (
    ("b200", 180, "sxm", 8, "US", "Voltage Park", 224, 2048, 30720, "38.40", True),
    ("h200", 141, "sxm", 8, "US", "Voltage Park", 192, 2048, 30720, "24.80", True),
    ("h100", 80, "sxm", 8, "US", "Voltage Park", 104, 1024, 18432, "16.72", True),
    ("h100", 80, "pcie", 4, "BR", "Latitude", 64, 768, 7600, "8.60", False),
    ("a100", 80, "sxm", 8, "DE", "Latitude", 128, 1024, 15360, "12.16", True),
    ("l40s", 48, "pcie", 8, "GB", "Latitude", 64, 768, 7600, "7.36", False),
    ("rtx4090", 24, "pcie", 8, "US", "Latitude", 64, 512, 3840, "3.92", False),
)


def _image(
    slug: str,
    name: str,
    image: str,
    *,
    ports: Sequence[tuple[str, str]],
    description: str | None = None,
    environment: Sequence[tuple[str, str]] = (),
    startup_command: str | None = None,
    requires_ssh: bool | None = None,
) -> Json:
    return {
        "slug": slug,
        "name": name,
        "description": description,
        "image": image,
        "expose": [{"port": port, "protocol": protocol} for port, protocol in ports],
        "environment": [{"name": key, "value": value} for key, value in environment],
        "startup_command": startup_command,
        "requires_ssh": requires_ssh,
    }


_IMAGES = (
    _image(
        "ubuntu-24-04-ssh",
        "Ubuntu 24.04 with SSH",
        "docker.io/fluencelabs/ubuntu-ssh:24.04",
        ports=[("22", "tcp")],
        description="A bare Ubuntu with an SSH server and the CUDA runtime.",
        requires_ssh=True,
    ),
    _image(
        "pytorch-2-6",
        "PyTorch 2.6",
        "docker.io/pytorch/pytorch:2.6.0-cuda12.4-cudnn9-devel",
        ports=[("22", "tcp"), ("6006", "tcp")],
        description="PyTorch with CUDA 12.4; TensorBoard on port 6006.",
        environment=[("NVIDIA_VISIBLE_DEVICES", "all")],
        requires_ssh=True,
    ),
    _image(
        "jupyter-lab",
        "JupyterLab",
        "quay.io/jupyter/pytorch-notebook:cuda12-latest",
        ports=[("80", "http")],
        environment=[("JUPYTER_TOKEN", "change-me")],
        startup_command="start-notebook.py --port=80 --ip=0.0.0.0",
        requires_ssh=False,
    ),
    _image(
        "vllm-openai",
        "vLLM server",
        "docker.io/vllm/vllm-openai:v0.8.4",
        ports=[("80", "http"), ("8000", "tcp")],
        description="An OpenAI-compatible server for open models.",
        environment=[("HF_TOKEN", ""), ("MODEL", "qwen/qwen2.5-7b-instruct")],
    ),
    _image(
        "ollama",
        "Ollama",
        "docker.io/ollama/ollama:0.6.5",
        ports=[("11434", "tcp")],
        requires_ssh=False,
    ),
)


def _machine(kind: Kind, row: _MachineRow) -> Offer:
    model, vram, interface, gpus, country, provider, vcpu, memory, storage, price, nvlink = row
    slug = f"{provider.lower().replace(' ', '-')}-{country.lower()}-{model}-{vram}gi-{interface}-{gpus}gpu"
    return Offer(
        kind=kind,
        slug=slug,
        model=model,
        vram_gi=vram,
        interface=interface,
        gpu_count=gpus,
        vcpu=vcpu,
        memory_gi=memory,
        storage_gi=storage,
        hourly=Decimal(price),
        locations=(country,),
        provider=provider,
        nvlink=nvlink,
        os_options=_OS[provider],
    )


def _container(row: tuple[str, int, str, int, int, int, int, str, str]) -> Offer:
    model, vram, interface, gpus, vcpu, memory, storage, price, countries = row
    return Offer(
        kind="container",
        slug=f"{model}-{vram}gi-{interface}-{gpus}gpu-{vcpu}cpu-{memory}gb-{storage}gb",
        model=model,
        vram_gi=vram,
        interface=interface,
        gpu_count=gpus,
        vcpu=vcpu,
        memory_gi=memory,
        storage_gi=storage,
        hourly=Decimal(price),
        locations=tuple(countries.split()),
    )


def default_catalog() -> Catalog:
    """A dozen GPU models as containers, virtual machines and bare metal."""
    return Catalog.of(
        [
            *map(_container, _CONTAINERS),
            *(_machine("vm", row) for row in _VMS),
            *(_machine("baremetal", row) for row in _BAREMETAL),
        ],
        _IMAGES,
    )
