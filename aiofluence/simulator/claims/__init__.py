"""Every claim of the simulator about the service, in one table: `SECTIONS`.

docs/fidelity.md is generated from the table: `python -m aiofluence.simulator.claims > docs/fidelity.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .claim import Claim, ClaimClass
from .http import ACCOUNT, CATALOGUE, HTTP, REQUESTS
from .instances import INSTANCES, MONEY, RESTARTS
from .logs import EVENTS, LOGS, PROCESSES

__all__ = ["CLAIMS", "SECTIONS", "Claim", "ClaimClass"]

SECTIONS: Final[Mapping[str, tuple[Claim, ...]]] = {
    "HTTP and keys": HTTP,
    "Catalogue": CATALOGUE,
    "Requests and refusals": REQUESTS,
    "Instances": INSTANCES,
    "Containers that exit, and updates": RESTARTS,
    "Money": MONEY,
    "Account": ACCOUNT,
    "Logs": LOGS,
    "Events": EVENTS,
    "Real processes": PROCESSES,
}

CLAIMS: Final[tuple[Claim, ...]] = tuple(claim for claims in SECTIONS.values() for claim in claims)
