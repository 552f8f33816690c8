"""Lost replies: a run states nothing wrong about the service, and ends what it rents."""

from __future__ import annotations

from typing import Any

import pytest

from aiofluence import NoReplyError, Reply, Request
from aiofluence.conformance.finding import Verdict
from aiofluence.conformance.probe import Level
from aiofluence.simulator import Simulator, SimulatorWire

from ..harness import VIRTUAL
from .bench import give_history, observe


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class LossyWire(SimulatorWire):
    """Wire that loses the reply to each change that the service accepts, once for equal requests."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.lost: list[tuple[str, str, bytes]] = []

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        change = request.method, request.path, request.body
        if request.method != "GET" and 200 <= reply.status < 300 and change not in self.lost:
            self.lost.append(change)
            raise NoReplyError("lost")
        return reply


async def test_lost_replies_contradict_nothing() -> None:
    simulator = Simulator()
    await give_history(simulator)
    before = simulator.spent()
    wire = LossyWire(simulator)
    seen = await observe(wire, Level.PAID)
    assert {method for method, _, _ in wire.lost} == {"POST", "PUT", "DELETE"}
    assert [(f.claim, f.expected, f.observed) for f in seen.contradicted] == []
    assert sum(f.verdict is Verdict.CONFIRMED for f in seen.findings) >= 70
    assert sorted(instance.name for instance in simulator.live()) == ["new", "new-vm"]
    assert simulator.spent() - before < 3
