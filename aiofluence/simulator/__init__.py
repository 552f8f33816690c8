"""A simulator of the whole GPU Cloud service, for tests and experiments without cost.

`Simulator` is a pure state machine. `SimulatorWire` connects a session to it in process.
`SimulatorServer` and `python -m aiofluence.simulator` serve it over HTTP. The simulator shares no model
and no converter with the client. docs/fidelity.md lists what is documented and what is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .account import KeyState
from .answer_options import AnswerOptions
from .billing import LedgerEntry
from .clock import VirtualClockLoop, run_virtual
from .endpoints import ServerRateLimit
from .events import ClusterEvent, ClusterOptions, PodName
from .faults import RANDOM_FAULTS, Effect, Fault, FaultOutcome, Script
from .instances import ContainerInstance, Instance, MachineInstance, State
from .local_processes import LocalProcesses
from .logs import ContainerLog, PodLog
from .plans import Catalog, PlanRow
from .profile import DEFAULT_PROFILE, KIND, LIKELY, Profile
from .programs import Program
from .simulator import DEFAULT_API_KEY, SeenRequest, Simulator
from .stock import default_catalog, published_catalog
from .timing import Provisioning
from .wire import SimulatorWire

if TYPE_CHECKING:
    from .server import SimulatorServer

__all__ = [
    "DEFAULT_API_KEY",
    "DEFAULT_PROFILE",
    "KIND",
    "LIKELY",
    "RANDOM_FAULTS",
    "AnswerOptions",
    "Catalog",
    "ClusterEvent",
    "ClusterOptions",
    "ContainerInstance",
    "ContainerLog",
    "Effect",
    "Fault",
    "FaultOutcome",
    "Instance",
    "KeyState",
    "LedgerEntry",
    "LocalProcesses",
    "MachineInstance",
    "PlanRow",
    "PodLog",
    "PodName",
    "Profile",
    "Program",
    "Provisioning",
    "Script",
    "SeenRequest",
    "ServerRateLimit",
    "Simulator",
    "SimulatorServer",
    "SimulatorWire",
    "State",
    "VirtualClockLoop",
    "default_catalog",
    "published_catalog",
    "run_virtual",
]


def __getattr__(name: str) -> Any:
    # Only the server needs aiohttp's server. The other modules load without it.
    if name == "SimulatorServer":
        from .server import SimulatorServer

        return SimulatorServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
