"""The simulator's own records of instances.

Records are changed by `world.World` alone. They know no money rules and no timers, and share
nothing with the client's models.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from math import inf
from random import Random
from typing import TypeAlias

import attrs

from .billing import Bill
from .events import ClusterEvent
from .logs import ContainerLog
from .plans import Json, Kind, PlanRow
from .programs import STAYS, Program

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
    offer: PlanRow
    location: str
    created_at: float
    updated_at: float
    bill: Bill
    state: State = State.INITIALIZED
    failure: str | None = None
    """Why the provisioning will fail, or has; None for a sound one."""
    active_at: float = inf
    """When it became ACTIVE; infinite before."""
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
    program: Program = STAYS
    """What its image and command do, unless it is hosted."""
    pod_since: float = inf
    """When the cluster began to create the present pod."""
    run: int = 0
    """Number of the present run, or of the wait for it; timers of an earlier number do nothing."""
    run_since: float = 0.0
    backoffs: int = 0
    """Restarts since it last ran for long."""
    down_since: float | None = None
    """When it began to be unavailable; None while it is sound."""


@attrs.define(eq=False, kw_only=True)
class MachineInstance(Instance):
    os_image: str
    ssh_key: str = attrs.field(repr=False)
    address: str
    has_address: bool = False
    """The IP is shown as its domain, while it is live."""


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
