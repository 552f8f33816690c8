"""The simulator's own records of instances, and the JSON that the service would show of them.

Records are changed by `world.World` alone. They know no money rules and no timers, and share
nothing with the client's models.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import TypeAlias

import attrs

from .billing import Bill
from .catalog import Json, Kind, Offer
from .cluster import ClusterEvent
from .podlog import ContainerLog

Variables: TypeAlias = tuple[tuple[str, str], ...]


class State(StrEnum):
    """Where an instance is in its life; the value is what goes over the wire."""

    INITIALIZED = "INITIALIZED"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    ENDED = "ENDED"

    @property
    def live(self) -> bool:
        """Costs money, or may yet."""
        return self in (State.INITIALIZED, State.ACTIVE)


@attrs.frozen
class ExposedPort:
    """A port of the container; `port` is text, as on the wire."""

    port: str
    protocol: str = "tcp"

    def to_json(self) -> Json:
        return {"port": self.port, "protocol": self.protocol}


@attrs.frozen
class ContainerSettings:
    """What runs in a container: the part of it that an update replaces.

    Registry credentials are checked when they come in and then forgotten: no answer contains them.
    """

    image: str
    environment: Variables = attrs.field(default=(), repr=False)
    startup_command: str | None = None
    ssh_key: str | None = attrs.field(default=None, repr=False)

    def environment_json(self) -> list[Json]:
        """The variables; the SSH key is shown as one of them, and nowhere else."""
        shown = [*self.environment]
        if self.ssh_key is not None:
            shown = [pair for pair in shown if pair[0] != "SSH_PUBKEY"]
            shown.append(("SSH_PUBKEY", self.ssh_key))
        return [{"name": name, "value": value} for name, value in shown]


@attrs.frozen
class Placement:
    """Where a container can really be reached: its host, and the outer port of each port it exposes."""

    host: str
    ports: tuple[int, ...]


@attrs.define(eq=False, kw_only=True)
class Instance:
    """What the service knows of one instance. Times are simulated seconds.

    This is the simulator's record itself, not a copy: look, but change it through the simulator.
    """

    id: str
    name: str
    offer: Offer
    location: str
    created_at: float
    updated_at: float
    bill: Bill
    state: State = State.INITIALIZED
    failure: str | None = None
    """Why the provisioning will fail, or has; None for a sound one."""
    rng: Random = attrs.field(repr=False)
    summary: bytes | None = attrs.field(default=None, init=False, repr=False)
    """The row of the list as JSON text, kept until something in it changes."""

    @property
    def kind(self) -> Kind:
        return self.offer.kind

    @property
    def live(self) -> bool:
        return self.state.live


@attrs.define(eq=False, kw_only=True)
class ContainerInstance(Instance):
    settings: ContainerSettings
    expose: tuple[ExposedPort, ...]
    log: ContainerLog = attrs.field(repr=False)
    events: list[ClusterEvent] = attrs.field(factory=list, repr=False)
    """In no order, and some still in the future: an answer shows those that have happened."""
    started: bool = False
    forwarded_ports: list[Json] | None = None
    domain: str | None = None
    placement: Placement | None = None
    """Where it is, if it runs anywhere; None for one that is only simulated."""
    updating: bool = False


@attrs.define(eq=False, kw_only=True)
class MachineInstance(Instance):
    os_image: str
    ssh_key: str = attrs.field(repr=False)
    address: str


@attrs.frozen
class Calendar:
    """Simulated seconds as the dates and times of the service."""

    start: datetime

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def iso(self, seconds: float) -> str:
        """ISO 8601, UTC, microseconds, `Z`."""
        return self.at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def next_hour(self, seconds: float) -> float:
        """The next UTC clock hour strictly after `seconds`, in simulated seconds."""
        begun = self.at(seconds).replace(minute=0, second=0, microsecond=0)
        return (begun + timedelta(hours=1) - self.start).total_seconds()


def summary_bytes(instance: Instance, calendar: Calendar) -> bytes:
    """One row of a list, as JSON text: long lists are asked for often and change little."""
    if instance.summary is None:
        instance.summary = json.dumps(summary_json(instance, calendar)).encode()
    return instance.summary


def summary_json(instance: Instance, calendar: Calendar) -> Json:
    status = "instance_status" if isinstance(instance, ContainerInstance) else "status"
    return {
        "id": instance.id,
        "name": instance.name,
        status: instance.state.value,
        "resources": {"supply": instance.offer.supply_json(), "gpu_model": instance.offer.gpu_json()},
        "domain": _domain(instance),
        "location": instance.location,
        "created_at": calendar.iso(instance.created_at),
        "updated_at": calendar.iso(instance.updated_at),
    }


def detail_json(instance: Instance, calendar: Calendar, now: float) -> Json:
    common = summary_json(instance, calendar) | {"billing": _billing_json(instance, calendar, now)}
    if isinstance(instance, ContainerInstance):
        return common | _container_json(instance)
    assert isinstance(instance, MachineInstance)
    return common | _machine_json(instance)


def _billing_json(instance: Instance, calendar: Calendar, now: float) -> Json:
    bill = instance.bill
    return {
        "hourly_usage": float(bill.hourly),
        "total_spendings": float(bill.spent),
        "reserved_amount": float(bill.reserved),
        "next_billing_period": calendar.iso(calendar.next_hour(now)) if instance.live else None,
    }


def _container_json(instance: ContainerInstance) -> Json:
    network: Json | None = None
    if instance.state is State.ACTIVE and instance.forwarded_ports is not None:
        web = any(port.protocol == "http" for port in instance.expose)
        domain = instance.domain
        network = {
            "domain": domain,
            "forwarded_ports": instance.forwarded_ports,
            "uri": _uri(instance) if web and domain else None,
        }
    settings = instance.settings
    return {
        "container_status": "STARTED" if instance.started else "NOT_STARTED",
        "container_info": {
            "image": settings.image,
            "expose": [port.to_json() for port in instance.expose],
            "environment": settings.environment_json(),
            "startup_command": settings.startup_command,
        },
        "network": network,
    }


def _machine_json(instance: MachineInstance) -> Json:
    active = instance.state is State.ACTIVE
    return {
        "availability": instance.kind,
        "os_image": instance.os_image,
        "ssh_connection": f"ssh {_login(instance.os_image)}@{instance.address}" if active else None,
        "ssh_key": instance.ssh_key,
        "network": {"domain": None, "forwarded_ports": [], "uri": None} if active else None,
    }


def _domain(instance: Instance) -> str | None:
    if isinstance(instance, ContainerInstance) and instance.state is State.ACTIVE:
        return instance.domain
    return None


def _uri(instance: ContainerInstance) -> str:
    if instance.placement is None:
        return f"http://{instance.id[:8]}.{instance.domain}"
    web = next(index for index, port in enumerate(instance.expose) if port.protocol == "http")
    return f"http://{instance.domain}:{instance.placement.ports[web]}"


def _login(os_image: str) -> str:
    system = os_image.lower()
    return next((name for name in ("ubuntu", "debian", "rocky") if name in system), "root")
