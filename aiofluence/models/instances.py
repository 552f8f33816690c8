"""Instances: summaries (rows of a list), details (one instance), and refs, as frozen values.

Only a detail has money, network and configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias, TypeVar

import attrs

from ..display.table import Cell, Row, age, short
from .values import (
    ContainerStatus,
    Environment,
    GpuModel,
    Kind,
    Port,
    PortProtocol,
    Status,
    Supply,
    describe_gpu,
)


@attrs.frozen
class InstanceRef:
    """Name of one instance: enough to request or end it. Cheap to store, e.g. in a database."""

    kind: Kind
    id: str
    name: str

    @property
    def ref(self) -> InstanceRef:
        """The ref itself, so that a ref can be used like an instance."""
        return self

    def __str__(self) -> str:
        return f"{self.kind} {short(self.name)} ({short(self.id)})"


@attrs.frozen
class Resources:
    """Resources of an instance: supply and GPU."""

    supply: Supply
    gpu_model: GpuModel


@attrs.frozen
class Billing:
    """Cost of an instance, in USDC.

    Attributes:
        hourly_usage: price per hour, rounded to cents; 0 after the end.
        total_spendings: total since the deploy, rounded to cents. It remains after the end.
        reserved_amount: amount taken from the account but not yet spent. Refunded at termination.
        next_billing_period: start of the next charged hour, UTC; None unless the instance is ACTIVE.
    """

    hourly_usage: Decimal
    total_spendings: Decimal
    reserved_amount: Decimal
    next_billing_period: datetime | None = None


@attrs.frozen
class ForwardedPort:
    """A forwarded port: `external_port` of the network's domain leads to `port` inside the container."""

    port: int
    external_port: int
    protocol: PortProtocol = PortProtocol.TCP


@attrs.frozen
class Network:
    """Addresses of an instance. `domain` may be None for a while after ACTIVE. `uri` is for port 80/http."""

    domain: str | None = None
    forwarded_ports: tuple[ForwardedPort, ...] = ()
    uri: str | None = None


@attrs.frozen
class ContainerInfo:
    """A container's configuration, without credentials. `environment` has an SSH key as `SSH_PUBKEY`."""

    image: str
    expose: tuple[Port, ...] = ()
    environment: Environment = attrs.field(factory=Environment)
    startup_command: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True, repr=False)
class _Summary(Row):
    """The fields that the rows of all lists have."""

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
        """The ref of this instance."""
        found: Any = self
        return InstanceRef(found.kind, self.id, self.name)

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        found: Any = self
        billing = getattr(self, "billing", None)
        return {
            "name": self.name,
            "kind": None if found.kind is Kind.CONTAINER else found.kind,
            "status": self.status,
            "GPU": describe_gpu(self.resources.gpu_model, self.resources.supply.gpu_count),
            "USDC/h": billing.hourly_usage if billing else None,
            "age": age(self.created_at, at),
            "id": self.id,
            "where": self.location,
            "spent": billing.total_spendings if billing else None,
        }

    def _take_domain(self) -> None:
        """Set `domain` of a detail, where the service sends it only in `network` (contract 5.2)."""
        network: Network | None = getattr(self, "network", None)
        if network is not None and network.domain is not None:
            object.__setattr__(self, "domain", network.domain)


@attrs.frozen(kw_only=True, repr=False)
class ContainerSummary(_Summary):
    """A container as a row of a list: without network, money and container status.

    `domain` is the container's external name; None while it has no name.
    """

    kind: ClassVar[Kind] = Kind.CONTAINER


@attrs.frozen(kw_only=True, repr=False)
class Container(ContainerSummary):
    """Detail of a container. `network` is None unless ACTIVE, and `domain` is the network's."""

    container_status: ContainerStatus | None = None
    container_info: ContainerInfo
    billing: Billing
    network: Network | None = None

    def __attrs_post_init__(self) -> None:
        self._take_domain()


@attrs.frozen(kw_only=True, repr=False)
class MachineSummary(_Summary):
    """A VM or bare-metal machine as a row of a list. `kind` comes from the endpoint, not from the reply.

    `domain` is the machine's IP address; None while it has no address.
    """

    kind: Kind


@attrs.frozen(kw_only=True, repr=False)
class Machine(MachineSummary):
    """Detail of a VM or bare-metal machine.

    `ssh_connection` (`"ssh ubuntu@203.0.113.7"`) and `network` are None unless ACTIVE. `domain` is the
    network's, which is the machine's IP address.
    """

    availability: str | None = None
    os_image: str | None = None
    ssh_connection: str | None = None
    ssh_key: str | None = attrs.field(default=None, repr=False)
    billing: Billing
    network: Network | None = None

    def __attrs_post_init__(self) -> None:
        self._take_domain()


Summary: TypeAlias = ContainerSummary | MachineSummary
Instance: TypeAlias = Container | Machine
Referable: TypeAlias = InstanceRef | Summary
"""Argument of lifecycle calls: a ref, or any instance object (details are summaries, too)."""


_SeenT = TypeVar("_SeenT", bound=Summary | None)


def without_secrets(seen: _SeenT) -> _SeenT:
    """Return a copy without secrets: environment names without values, no command, no SSH key."""
    if isinstance(seen, Container):
        info = seen.container_info
        names = Environment(dict.fromkeys(info.environment, ""))
        info = attrs.evolve(info, environment=names, startup_command=None)
        return attrs.evolve(seen, container_info=info)
    return attrs.evolve(seen, ssh_key=None) if isinstance(seen, Machine) else seen
