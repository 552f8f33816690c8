"""Odd rows of a deploy's name, after a lost reply: a row that may be the instance forbids a second POST."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from aiofluence import Reply, Request, Session, UncertainDeployError
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator, SimulatorWire

from ..harness import FAST, VIRTUAL, container_spec, session_on

POST = "POST /gpu/instances/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class OddRows(SimulatorWire):
    """Wire that edits each row of the container LIST."""

    def __init__(self, simulator: Simulator, edit: Callable[[Any], Any]) -> None:
        super().__init__(simulator)
        self.edit = edit

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        if (request.method, request.path) != ("GET", "/gpu/instances/"):
            return reply
        return attrs.evolve(
            reply, body=json.dumps([self.edit(row) for row in json.loads(reply.body)]).encode()
        )


@pytest.mark.parametrize("change", [{"created_at": 5}, {"id": "a/b"}])
async def test_an_odd_row_permits_no_second_post(change: dict[str, Any]) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    wire = OddRows(simulator, lambda row: row | change)
    async with Session(DEFAULT_API_KEY, wire=wire, rate=FAST) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        (live,) = simulator.live()
        assert [ref.id for ref in caught.value.candidates] == [change.get("id", live.id)]
        wire.edit = lambda row: row
    assert simulator.count(POST) == 1


async def test_a_row_of_another_day_is_another_s() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        old = await fluence.containers.deploy(container_spec(simulator))
    simulator.advance(3 * 86_400)
    simulator.fail(POST, Fault.reset())
    async with session_on(simulator) as fluence:
        new = await fluence.containers.deploy(container_spec(simulator))
    assert sorted(instance.id for instance in simulator.live()) == sorted([old.id, new.id])
    assert old.id != new.id
