"""The simulator's own records of instances.

Only `world.World` changes the records. They contain no money rules and no timers, and share nothing
with the client's models.
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
    """Status of an instance. The values are those of the wire."""

    INITIALIZED = "INITIALIZED"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    ENDED = "ENDED"

    @property
    def live(self) -> bool:
        """True if the instance costs money or may yet do so: INITIALIZED or ACTIVE."""
        return self in (State.INITIALIZED, State.ACTIVE)


@attrs.frozen
class ExposedPort:
    """A port of the container. `port` is text, as on the wire."""

    port: str
    protocol: str = "tcp"

    def to_json(self) -> Json:
        return {"port": self.port, "protocol": self.protocol}


@attrs.frozen
class ContainerSettings:
    """The part of a container's configuration that an update replaces.

    Registry credentials are checked on arrival and then dropped: no answer contains them.
    """

    image: str
    environment: Variables = attrs.field(default=(), repr=False)
    startup_command: str | None = None
    ssh_key: str | None = attrs.field(default=None, repr=False)

    def environment_json(self) -> list[Json]:
        """Return the variables. The SSH key appears as one of them, and nowhere else."""
        shown = [*self.environment]
        if self.ssh_key is not None:
            shown = [pair for pair in shown if pair[0] != "SSH_PUBKEY"]
            shown.append(("SSH_PUBKEY", self.ssh_key))
        return [{"name": name, "value": value} for name, value in shown]


@attrs.frozen
class Placement:
    """The real address of a container: its host, and the external port of each exposed port."""

    host: str
    ports: tuple[int, ...]


@attrs.define(eq=False, kw_only=True)
class Instance:
    """The service's record of one instance. Times are simulated seconds.

    This is the simulator's record itself, not a copy. Read it, but change it only through the simulator.
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
    """Reason why the provisioning fails or has failed. None without a failure."""
    active_at: float = inf
    """Second at which the instance became ACTIVE. Infinite before."""
    rng: Random = attrs.field(repr=False)
    summary: bytes | None = attrs.field(default=None, init=False, repr=False)
    """Cached row of the list as JSON text. None after a change."""

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
    """Unordered events, some of them in the future. An answer shows the events that have happened."""
    started: bool = False
    forwarded_ports: list[Json] | None = None
    domain: str | None = None
    placement: Placement | None = None
    """Address of the container's real process. None if the container is only simulated."""
    updating: bool = False
    program: Program = STAYS
    """Behaviour of the image and command. Unused for a hosted container."""
    pod_since: float = inf
    """Second at which the cluster began to create the present pod."""
    run: int = 0
    """Number of the present run, or of the wait for that run. Timers of earlier numbers have no effect."""
    run_since: float = 0.0
    backoffs: int = 0
    """Restarts since the last long run."""
    down_since: float | None = None
    """Second at which the container became unavailable. None while it is available."""


@attrs.define(eq=False, kw_only=True)
class MachineInstance(Instance):
    os_image: str
    ssh_key: str = attrs.field(repr=False)
    address: str
    has_address: bool = False
    """True if the IP is shown as the machine's domain while the machine is live."""


@attrs.frozen
class Calendar:
    """Conversion of simulated seconds to the service's dates and times."""

    start: datetime

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def iso(self, seconds: float) -> str:
        """Format a second as ISO 8601 in UTC, with microseconds and `Z`."""
        return self.at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def next_hour(self, seconds: float) -> float:
        """Return the next UTC clock hour strictly after `seconds`, in simulated seconds."""
        begun = self.at(seconds).replace(minute=0, second=0, microsecond=0)
        return (begun + timedelta(hours=1) - self.start).total_seconds()
