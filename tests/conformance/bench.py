"""Runs of the probes on virtual time, against any wire, and an account with a history on the simulator."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from aiofluence import FluenceError, Session, Wire
from aiofluence.conformance.finding import Observations
from aiofluence.conformance.probe import Level
from aiofluence.conformance.run import Conformance
from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorWire
from aiofluence.simulator.claims import CLAIMS

from ..harness import FAST, container_spec, session_on, vm_spec

IDS = {claim.id: claim.why_not for claim in CLAIMS}


async def observe(
    wire: Wire, level: Level, *, key: str = DEFAULT_API_KEY, journal: Path | None = None
) -> Observations:
    """Run a level and the ones before it, as the command does, with a session for each."""
    run = Conformance()
    for each in level.included:
        async with Session(key, wire=Door(wire), rate=FAST, journal=journal) as session:
            if each is Level.FREE:
                await run.find_prices(session)
            await run.run(session, each)
    return run.observations(IDS)


class Door:
    """A wire that several sessions share: closing one does not close it."""

    def __init__(self, wire: Wire) -> None:
        self.send = wire.send

    async def aclose(self) -> None: ...


async def observe_simulator(simulator: Simulator, level: Level) -> Observations:
    return await observe(SimulatorWire(simulator), level)


async def give_history(simulator: Simulator) -> None:
    """Let the account have ended, failed and running containers and machines."""
    with_rate_limit, simulator.rate_limit = simulator.rate_limit, None
    async with session_on(simulator) as fluence:
        old = await fluence.deploy_and_wait(container_spec(simulator, "old"))
        vm = await fluence.deploy_and_wait(vm_spec(simulator, "old-vm"))
        await fluence.terminate_and_wait(old)
        await fluence.terminate_and_wait(vm)  # waits out the minimum runtime
        await asyncio.sleep(4000)
        simulator.fail_next_provisioning()
        with suppress(FluenceError):
            await fluence.deploy_and_wait(vm_spec(simulator, "failed"))
        await fluence.deploy_and_wait(container_spec(simulator, "new", expose=[22, "80/http"]))
        await fluence.deploy_and_wait(vm_spec(simulator, "new-vm"))
        await asyncio.sleep(120)
    simulator.rate_limit = with_rate_limit


def ids(observations: Observations) -> set[str]:
    """Return the claims that are contradicted."""
    return {finding.claim for finding in observations.contradicted}
