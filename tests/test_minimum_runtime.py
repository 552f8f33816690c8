"""A DELETE that is refused until a machine has run for 20 minutes: waited out, and nothing is left running.

The refusals are faults on the simulator's DELETE, with texts that name the time left or do not. Virtual time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aiofluence import Reply, Request, Session, WaitTimeoutError
from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorWire

from .harness import FAST, VIRTUAL, now, vm_spec

MINIMUM = 20 * 60.0


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class MinimumWire:
    """The simulator, whose DELETE is refused until 20 minutes after the first one."""

    def __init__(self, simulator: Simulator, text: Callable[[float], str]) -> None:
        self._inner = SimulatorWire(simulator)
        self._text = text
        self._begun: float | None = None
        self.deletes = 0

    async def send(self, request: Request) -> Reply:
        if request.method == "DELETE":
            self.deletes += 1
            self._begun = now() if self._begun is None else self._begun
            left = self._begun + MINIMUM - now()
            if left > 0:
                return Reply(400, {}, json.dumps({"detail": self._text(left)}).encode())
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


TEXTS: dict[str, Callable[[float], str]] = {
    "names the time left": lambda left: f"Minimum runtime not met: {left:.0f} seconds remaining",
    "names the minimum": lambda _: "Minimum runtime of 20 minutes not met",
    "names nothing": lambda _: "Minimum runtime not met",
    "promises a year": lambda _: "Minimum runtime not met, try again in 8760 hours",
    "promises a moment": lambda _: "Minimum runtime not met, try again in 0 seconds",
}


@pytest.mark.parametrize("text", TEXTS)
async def test_the_minimum_runtime_is_waited_out(text: str) -> None:
    simulator = Simulator()
    wire = MinimumWire(simulator, TEXTS[text])
    async with Session(DEFAULT_API_KEY, wire=wire, rate=FAST) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        began = now()
        await fluence.terminate_and_wait(machine, timeout=2400)
        took = now() - began
    assert simulator.live() == []
    assert MINIMUM <= took < MINIMUM + 300
    assert wire.deletes <= (8 if text == "names the time left" else 60)


@pytest.mark.parametrize("text", TEXTS)
async def test_a_session_that_closes_waits_for_it_as_well(text: str) -> None:
    simulator = Simulator()
    async with Session(DEFAULT_API_KEY, wire=MinimumWire(simulator, TEXTS[text]), rate=FAST) as fluence:
        with pytest.raises(WaitTimeoutError):
            await fluence.deploy_and_wait(vm_spec(simulator), timeout=5)
        assert len(simulator.live()) == 1
    assert simulator.live() == []
