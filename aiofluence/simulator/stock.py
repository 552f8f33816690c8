"""Goods of the simulated service: two catalogues of plans, options, operating systems and default images.

Models, prices and places are plausible, not the service's current ones. Plans with a `published_id` were
published.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias

from .plans import Catalog, Json, Kind, PlanRow

# model, vram Gi, interface, GPUs, vCPUs, memory Gi, storage Gi, USDC an hour, countries
_ContainerRow: TypeAlias = tuple[str, int, str, int, int, int, int, str, str]

_CONTAINERS: tuple[_ContainerRow, ...] = (
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
    "massed-compute": ("Ubuntu Server 22.04",),
    "sesterce": ("ubuntu22.04_cuda12.4_shade_os",),
}
_OS_AT = {"Texas": ("ubuntu24.04",), "Finland 2": ("ubuntu24.04",)}

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

# Plans in the guides, with their ids. The columns are those above. Some prices are finer than cents.
_PUBLISHED_CONTAINERS: dict[str, _ContainerRow] = {
    "36cdb646-1246-42d8-b2d1-9480ca546536": ("h200", 141, "sxm", 1, 16, 128, 120, "2.96", "US"),
    "472ea881-73d9-423a-8e61-19addd34424c": ("a100", 80, "sxm", 1, 1, 1, 1, "1.22", "US"),
    "075e40d4-2766-4347-833b-205245fe3629": ("h100", 80, "sxm", 1, 16, 128, 120, "1.875", "US FI NL"),
}

# model, vram Gi, interface, GPUs, place as its provider writes it, provider, vCPUs, ...
_PUBLISHED_VMS: dict[str, _MachineRow] = {
    "3f6cd2d1-19ac-49fb-95a5-9088bb2dcb49": (
        "a10", 24, "pcie", 1, "sanjose-usa-2", "sesterce", 30, 186, 1303, "0.99", False,
    ),
    "0e311c31-1e31-4fc7-b27d-4b73f3f27bc2": (
        "a10", 24, "pcie", 1, "dulles-usa-1", "sesterce", 30, 186, 1303, "0.99", False,
    ),
    "d8312018-c50c-4278-89db-69e40013414d": (
        "a100", 80, "pcie", 1, "us-central-3", "massed-compute", 14, 93, 582, "1.07", False,
    ),
    "e5f00ba8-268e-4279-9672-eabca860f19e": (
        "rtxa6000", 48, "pcie", 1, "us-central-2", "massed-compute", 6, 48, 256, "0.435", False,
    ),
}  # fmt: skip

_OTHER_VMS: tuple[_MachineRow, ...] = (
    ("h200", 141, "sxm", 1, "Finland 2", "sesterce", 24, 225, 1024, "3.12", False),
    ("h100", 80, "sxm", 1, "us-east-1", "massed-compute", 26, 225, 2816, "2.49", False),
    ("h100", 80, "sxm", 1, "kristiansand-norway-2", "sesterce", 24, 185, 850, "2.39", False),
    ("h100", 80, "sxm", 8, "us-central-3", "massed-compute", 208, 1800, 22528, "19.92", True),
    ("h100", 80, "pcie", 1, "kristiansand-norway-2", "sesterce", 28, 180, 850, "1.95", False),
    ("a100", 80, "pcie", 1, "us-central-2", "massed-compute", 14, 93, 582, "1.07", False),
    ("a100", 80, "pcie", 1, "us-east-1", "massed-compute", 14, 93, 582, "1.07", False),
    ("a100", 80, "pcie", 1, "culpeper-usa-1", "sesterce", 28, 120, 850, "1.38", False),
    ("a100", 80, "pcie", 1, "newyork-usa-1", "sesterce", 28, 120, 850, "1.38", False),
    ("a100", 80, "pcie", 1, "tokyo-japan-2", "sesterce", 28, 120, 850, "1.41", False),
    ("a100", 80, "pcie", 8, "kristiansand-norway-2", "sesterce", 252, 1440, 6600, "11.04", True),
    ("l40s", 48, "pcie", 1, "us-central-3", "massed-compute", 16, 64, 625, "0.92", False),
    ("l40", 48, "pcie", 1, "us-central-3", "massed-compute", 14, 119, 582, "0.755", False),
    ("rtxa6000", 48, "pcie", 2, "us-central-2", "massed-compute", 12, 96, 512, "0.87", True),
    ("v100", 32, "sxm", 1, "Texas", "sesterce", 8, 22, 465, "0.45", False),
)

_OTHER_BAREMETAL: tuple[_MachineRow, ...] = (
    ("b200", 180, "sxm", 8, "us-central-3", "massed-compute", 224, 2048, 30720, "38.40", True),
    ("h200", 141, "sxm", 8, "Finland 2", "sesterce", 192, 2048, 30720, "24.80", True),
    ("h100", 80, "sxm", 8, "Texas", "sesterce", 104, 1024, 18432, "16.72", True),
    ("a100", 80, "sxm", 8, "kristiansand-norway-2", "sesterce", 128, 1024, 15360, "12.16", True),
    ("rtx4090", 24, "pcie", 8, "us-central-2", "massed-compute", 64, 512, 3840, "3.92", False),
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

# The service's own images, and three servers. PyTorch's default command is a shell, which would exit.
_PUBLISHED_IMAGES = (
    _image(
        "ubuntu-24-04-ssh",
        "Ubuntu 24.04 with SSH",
        "docker.io/fluencelabs/ubuntu-ssh-root:24.04",
        ports=[("22", "tcp")],
        description="A bare Ubuntu with an SSH server that reads SSH_PUBKEY.",
        requires_ssh=True,
    ),
    _image(
        "debian-11-ssh",
        "Debian 11 with SSH",
        "docker.io/fluencelabs/debian-ssh-root:11",
        ports=[("22", "tcp")],
        requires_ssh=True,
    ),
    _IMAGES[1] | {"startup_command": "sleep infinity"},
    *_IMAGES[2:],
)


def _machine(kind: Kind, row: _MachineRow, *, published_id: str = "") -> PlanRow:
    model, vram, interface, gpus, country, provider, vcpu, memory, storage, price, nvlink = row
    slug = f"{provider.lower().replace(' ', '-')}-{country.lower()}-{model}-{vram}gi-{interface}-{gpus}gpu"
    return PlanRow(
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
        os_options=_OS_AT.get(country, _OS[provider]),
        published_id=published_id,
    )


def _container(row: _ContainerRow, *, units: str = "gb", published_id: str = "") -> PlanRow:
    model, vram, interface, gpus, vcpu, memory, storage, price, countries = row
    return PlanRow(
        kind="container",
        slug=f"{model}-{vram}gi-{interface}-{gpus}gpu-{vcpu}cpu-{memory}{units}-{storage}{units}",
        model=model,
        vram_gi=vram,
        interface=interface,
        gpu_count=gpus,
        vcpu=vcpu,
        memory_gi=memory,
        storage_gi=storage,
        hourly=Decimal(price),
        locations=tuple(countries.split()),
        published_id=published_id,
    )


def default_catalog() -> Catalog:
    """Return a catalogue of a dozen GPU models as containers, virtual machines and bare metal."""
    return Catalog.of(
        [
            *map(_container, _CONTAINERS),
            *(_machine("vm", row) for row in _VMS),
            *(_machine("baremetal", row) for row in _BAREMETAL),
        ],
        _IMAGES,
    )


def published_catalog() -> Catalog:
    """Return the guides' plans and similar ones: free-text places, two providers, their systems."""
    return Catalog.of(
        [
            *(_container(row, units="gi", published_id=key) for key, row in _PUBLISHED_CONTAINERS.items()),
            *(_container(row, units="gi") for row in _CONTAINERS if not _is_published(row)),
            *(_machine("vm", row, published_id=key) for key, row in _PUBLISHED_VMS.items()),
            *(_machine("vm", row) for row in _OTHER_VMS),
            *(_machine("baremetal", row) for row in _OTHER_BAREMETAL),
        ],
        _PUBLISHED_IMAGES,
    )


def _is_published(row: _ContainerRow) -> bool:
    return any(row[:6] == published[:6] for published in _PUBLISHED_CONTAINERS.values())
