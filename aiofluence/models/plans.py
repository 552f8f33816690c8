"""Plans, machine options, default images, and the flat offers made from them, as frozen values.

`http.codec` reads the wire format, and `resources` sends the requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs

from ..display.table import Cell, Row
from .money import exact
from .specs import BareMetalSpec, ContainerSpec, Spec, VMSpec
from .values import (
    DeploymentType,
    Environment,
    GpuModel,
    Kind,
    Port,
    Size,
    Supply,
    describe_gpu,
)


@attrs.frozen
class Pricing:
    """Price of a plan.

    Attributes:
        hour: price per hour, in `currency`.
        upfront_hours: number of hours that the service charges at the deploy.
        currency: `USDC`.
    """

    hour: Decimal
    upfront_hours: int = 3
    currency: str = "USDC"

    @property
    @exact()
    def upfront(self) -> Decimal:
        """Amount charged at the deploy. One hour is spent, and the other hours stay reserved."""
        return self.hour * self.upfront_hours


@attrs.frozen(repr=False)
class ContainerPlan(Row):
    """A container plan. `id` is the `plan_id` of a spec. `locations` has the accepted `location` values."""

    id: str
    name: str
    supply: Supply
    gpu_model: GpuModel
    pricing: Pricing
    locations: tuple[str, ...] = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return {
            "plan": self.name,
            "GPU": describe_gpu(self.gpu_model, self.supply.gpu_count),
            "USDC/h": self.pricing.hour,
            "where": "/".join(self.locations),
            "id": self.id,
            "vCPU": self.supply.vcpu,
            "memory": str(self.supply.memory),
            "storage": str(self.supply.storage),
        }


@attrs.frozen(repr=False)
class MachineOption(Row):
    """A VM or bare-metal machine at one provider and location. `id` is the `plan_id` of a spec.

    `os_options` has the only accepted values of `os_image`, letter for letter.
    """

    id: str
    location: str
    provider: str
    vcpu: int
    memory: Size
    storage: Size
    deployment_type: DeploymentType
    pricing: Pricing
    nvlink: bool | None = None
    os_options: tuple[str, ...] = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return {
            "provider": self.provider,
            "where": self.location,
            "USDC/h": self.pricing.hour,
            "id": self.id,
            "vCPU": self.vcpu,
            "memory": str(self.memory),
            "storage": str(self.storage),
            "systems": ", ".join(self.os_options[:3]) + (", …" if len(self.os_options) > 3 else ""),
        }


@attrs.frozen(repr=False)
class MachineAvailability(Row):
    """The options for one number of GPUs."""

    gpu_count: int
    minimum_price: Decimal | None = None
    options_available_total: int | None = None
    providers_available_total: int | None = None
    data_center_available_total: int | None = None
    locations: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    options: tuple[MachineOption, ...] = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return {
            "GPUs": f"{self.gpu_count} GPU{'s' if self.gpu_count > 1 else ''}",
            "USDC/h and up": self.minimum_price,
            "options": len(self.options),
            "providers": ", ".join(self.providers),
            "where": "/".join(self.locations),
        }


@attrs.frozen(repr=False)
class MachinePlanGroup(Row):
    """All machine plans with one GPU model, grouped by number of GPUs, like the service's reply."""

    gpu_model: GpuModel
    minimum_price: Decimal | None = None
    availability_by_number: tuple[MachineAvailability, ...] = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        counts = " or ".join(str(number.gpu_count) for number in self.availability_by_number)
        return {
            "GPU": describe_gpu(self.gpu_model),
            "USDC/h and up": self.minimum_price,
            "GPUs": f"{counts} GPU{'' if counts == '1' else 's'}",
            "options": sum(len(number.options) for number in self.availability_by_number),
        }


@attrs.frozen(repr=False)
class DefaultImage(Row):
    """A ready-made container image of the service."""

    slug: str
    name: str
    image: str
    description: str | None = None
    expose: tuple[Port, ...] = ()
    environment: Environment = attrs.field(factory=Environment)
    startup_command: str | None = None
    requires_ssh: bool | None = None

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return {
            "slug": self.slug,
            "name": self.name,
            "image": self.image,
            "ports": ", ".join(map(str, self.expose)),
            "description": self.description and self.description[:80],
        }

    def to_spec(self, *, name: str, plan_id: str = "", **fields: Any) -> ContainerSpec:
        """Make a ContainerSpec that deploys this image. `fields` override the image's values.

        Without `plan_id`, give conditions for the plan among the fields, such as `gpu="l4"`.

        An image with `requires_ssh` needs `ssh_key=` among the fields.

        Raises:
            TypeError: ContainerSpec does not have one of the fields.
        """
        of_image: dict[str, Any] = {
            "image": self.image,
            "expose": self.expose,
            "environment": self.environment,
            "startup_command": self.startup_command,
        }
        return ContainerSpec(name=name, plan_id=plan_id, **(of_image | fields))


@attrs.frozen(repr=False)
class Offer(Row):
    """A plan or an option of any kind, in a form that makes all kinds comparable.

    Attributes:
        kind: container, vm or baremetal.
        plan_id: value for a spec's `plan_id`.
        name: the plan's slug, or a name made from the machine's properties.
        hourly: price per hour, in `currency`.
        upfront: amount charged at the deploy (`upfront_hours` x `hourly`).
        locations: two-letter countries of a container plan, to which a spec can restrict the container. Or
            the only location of a machine, a free text such as `us-central-3` or `Texas`.
        os_options: accepted values of `os_image` (machines only).
    """

    kind: Kind
    plan_id: str
    name: str
    gpu_model: GpuModel
    gpu_count: int
    vcpu: int
    memory: Size
    storage: Size
    hourly: Decimal
    upfront: Decimal
    currency: str
    locations: tuple[str, ...]
    provider: str | None = None
    nvlink: bool | None = None
    os_options: tuple[str, ...] = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return {
            "plan": self.name,
            "kind": self.kind,
            "GPU": describe_gpu(self.gpu_model, self.gpu_count),
            "USDC/h": self.hourly,
            "where": "/".join(self.locations),
            "id": self.plan_id,
            "provider": self.provider,
            "vCPU": self.vcpu,
            "memory": str(self.memory),
            "storage": str(self.storage),
        }

    def to_spec(self, *, name: str, **fields: Any) -> Spec:
        """Make the spec that deploys this offer. A machine gets the first of `os_options` by default.

        Raises:
            TypeError: the spec of this kind does not have one of the fields, or a required field is missing.
                Required are `image` and `expose` for a container, and `ssh_key` for a machine.
        """
        if self.kind is Kind.CONTAINER:
            return ContainerSpec(name=name, plan_id=self.plan_id, **fields)
        if "os_image" not in fields and self.os_options:
            fields["os_image"] = self.os_options[0]
        machine = VMSpec if self.kind is Kind.VM else BareMetalSpec
        return machine(name=name, plan_id=self.plan_id, **fields)


def offers_from_containers(plans: Iterable[ContainerPlan]) -> list[Offer]:
    """Convert container plans to offers, in the same order."""
    return [
        _offer(
            plan,
            plan.supply,
            kind=Kind.CONTAINER,
            name=plan.name,
            gpu_model=plan.gpu_model,
            gpu_count=plan.supply.gpu_count,
            locations=plan.locations,
        )
        for plan in plans
    ]


def offers_from_machines(kind: Kind, groups: Iterable[MachinePlanGroup]) -> list[Offer]:
    """Convert every option of every group to an offer, in the same order."""
    return [
        _offer(
            option,
            option,
            kind=kind,
            name=_machine_name(group.gpu_model, number.gpu_count, option),
            gpu_model=group.gpu_model,
            gpu_count=number.gpu_count,
            locations=(option.location,),
            provider=option.provider,
            nvlink=option.nvlink,
            os_options=option.os_options,
        )
        for group in groups
        for number in group.availability_by_number
        for option in number.options
    ]


def _offer(plan: ContainerPlan | MachineOption, supply: Supply | MachineOption, **fields: Any) -> Offer:
    price = plan.pricing
    return Offer(
        plan_id=plan.id,
        vcpu=supply.vcpu,
        memory=supply.memory,
        storage=supply.storage,
        hourly=price.hour,
        upfront=price.upfront,
        currency=price.currency,
        **fields,
    )


def _machine_name(gpu: GpuModel, count: int, option: MachineOption) -> str:
    interface = f"-{gpu.interface}".lower() if gpu.interface else ""
    return f"{gpu.model}-{gpu.vram.gib:g}gi{interface}-{count}gpu-{option.vcpu}cpu-{option.provider}".lower()
