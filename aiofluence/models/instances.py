"""What is running: summaries (a row of a list), details (one instance), and the ref that names one.

Answers of the service as frozen values. Only the detail has money, network and configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, TypeAlias, TypeVar

import attrs

from ..display.table import Cell, Row, age, short
from .plans import GpuModel, Supply, describe_gpu
from .values import ContainerStatus, Environment, Kind, Port, PortProtocol, Status

__all__ = [
    "Billing",
    "Container",
    "ContainerInfo",
    "ContainerSummary",
    "ForwardedPort",
    "Instance",
    "InstanceRef",
    "Machine",
    "MachineSummary",
    "Network",
    "Referable",
    "Resources",
    "Summary",
]


@attrs.frozen
class InstanceRef:
    """Names one instance: all it takes to ask for it or end it. Cheap to store, e.g. in a database."""

    kind: Kind
    id: str
    name: str

    @property
    def ref(self) -> InstanceRef:
        """Itself, so that a ref goes wherever an instance goes."""
        return self

    def __str__(self) -> str:
        return f"{self.kind} {short(self.name)} ({short(self.id)})"


@attrs.frozen
class Resources:
    """What an instance has: supply and GPU."""

    supply: Supply
    gpu_model: GpuModel


@attrs.frozen
class Billing:
    """What an instance costs, in USDC.

    Attributes:
        hourly_usage: price of one hour, rounded to cents; 0 after the end.
        total_spendings: spent since it was deployed, rounded to cents; it stays after the end.
        reserved_amount: taken from the account and not yet spent; refunded at termination.
        next_billing_period: when the next hour is charged, UTC; None unless the instance is ACTIVE.
    """

    hourly_usage: Decimal
    total_spendings: Decimal
    reserved_amount: Decimal
    next_billing_period: datetime | None = None


@attrs.frozen
class ForwardedPort:
    """`port` inside the container is reached from outside on the network's domain at `external_port`."""

    port: int
    external_port: int
    protocol: PortProtocol = PortProtocol.TCP


@attrs.frozen
class Network:
    """How to reach an instance: `domain` may be None for a while even when active; `uri` is for 80/http."""

    domain: str | None = None
    forwarded_ports: tuple[ForwardedPort, ...] = ()
    uri: str | None = None


@attrs.frozen
class ContainerInfo:
    """A container's configuration; `environment` holds an SSH key as `SSH_PUBKEY`, credentials never show."""

    image: str
    expose: tuple[Port, ...] = ()
    environment: Environment = attrs.field(factory=Environment)
    startup_command: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True, repr=False)
class ContainerSummary(Row):
    """A container as a list shows it: no network, no money, no container status.

    `domain` is the name under which it is reached from outside, None while it has none.
    """

    kind: ClassVar[Kind] = Kind.CONTAINER

    id: str
    name: str
    status: Status
    resources: Resources
    created_at: datetime
    updated_at: datetime | None = None
    domain: str | None = None
    location: str | None = None

    @property
    def ref(self) -> InstanceRef:
        """The ref that names this instance."""
        return InstanceRef(self.kind, self.id, self.name)

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return _cells(self, at)


@attrs.frozen(kw_only=True, repr=False)
class Container(ContainerSummary):
    """A container in full. `network` is None unless active, and `domain` is the network's."""

    container_status: ContainerStatus | None = None
    container_info: ContainerInfo
    billing: Billing
    network: Network | None = None

    def __attrs_post_init__(self) -> None:
        _take_domain(self)


@attrs.frozen(kw_only=True, repr=False)
class MachineSummary(Row):
    """A VM or bare-metal machine as a list shows it. `kind` is where we asked: the wire does not say.

    `domain` is the machine's IP address, None while it has none.
    """

    kind: Kind
    id: str
    name: str
    status: Status
    resources: Resources
    created_at: datetime
    updated_at: datetime | None = None
    domain: str | None = None
    location: str | None = None

    @property
    def ref(self) -> InstanceRef:
        """The ref that names this instance."""
        return InstanceRef(self.kind, self.id, self.name)

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        return _cells(self, at)


@attrs.frozen(kw_only=True, repr=False)
class Machine(MachineSummary):
    """A VM or bare-metal machine in full.

    `ssh_connection` (`"ssh ubuntu@203.0.113.7"`) and `network` are None unless active. `domain` is the
    network's, which is the machine's IP address.
    """

    availability: str | None = None
    os_image: str | None = None
    ssh_connection: str | None = None
    ssh_key: str | None = attrs.field(default=None, repr=False)
    billing: Billing
    network: Network | None = None

    def __attrs_post_init__(self) -> None:
        _take_domain(self)


def _take_domain(detail: Container | Machine) -> None:
    """Set `domain` of a detail, which has it in `network` alone (contract 5.2)."""
    if detail.network is not None and detail.network.domain is not None:
        object.__setattr__(detail, "domain", detail.network.domain)


Summary: TypeAlias = ContainerSummary | MachineSummary
Instance: TypeAlias = Container | Machine
Referable: TypeAlias = InstanceRef | Summary
"""Whatever a lifecycle call takes: a ref, or any instance object (details are summaries, too)."""


def _cells(seen: Summary, at: datetime | None) -> Mapping[str, Cell]:
    """Of a summary or a detail; it is seen here alone what both have in common."""
    billing = seen.billing if isinstance(seen, Container | Machine) else None
    return {
        "name": seen.name,
        "kind": None if seen.kind is Kind.CONTAINER else seen.kind,
        "status": seen.status,
        "GPU": describe_gpu(seen.resources.gpu_model, seen.resources.supply.gpu_count),
        "USDC/h": billing.hourly_usage if billing else None,
        "age": age(seen.created_at, at),
        "id": seen.id,
        "where": seen.location,
        "spent": billing.total_spendings if billing else None,
    }


_SeenT = TypeVar("_SeenT", bound=Summary | None)


def without_secrets(seen: _SeenT) -> _SeenT:
    """A copy for where secrets must not go: environment names without values, no command, no SSH key."""
    if isinstance(seen, Container):
        info = seen.container_info
        names = Environment(dict.fromkeys(info.environment, ""))
        info = attrs.evolve(info, environment=names, startup_command=None)
        return attrs.evolve(seen, container_info=info)
    return attrs.evolve(seen, ssh_key=None) if isinstance(seen, Machine) else seen
