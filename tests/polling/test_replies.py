"""Waits whose polls have odd replies: a refused key, an id that is none, a detail that cannot be read."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from aiofluence import AuthError, ConfigError, InstanceRef, Reply, Request, Session, Until
from aiofluence.models.values import Kind
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator, SimulatorWire

from ..harness import FAST, VIRTUAL, container_spec, now, session_on


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


DETAIL = "GET /gpu/instances/{id}"


async def test_a_malformed_id_ends_its_wait_alone() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        with pytest.raises(ConfigError, match="not the id"):
            await fluence.wait(InstanceRef(Kind.CONTAINER, "no id", "exp-2"))
        assert (await fluence.wait(ref)).id == ref.id


@pytest.mark.parametrize("times", [1, None])
async def test_one_refusal_of_the_key_ends_no_wait(times: int | None) -> None:
    simulator = Simulator()
    refused = Fault.status(401, {"error": "Unauthorized", "code": "unauthorized"})
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(DETAIL, refused, times=times)
        simulator.fail("GET /gpu/instances/", refused, times=times)
        wait = fluence.wait(container, until=Until.READY, timeout=300)
        if times is None:
            with pytest.raises(AuthError):
                await wait
        else:
            assert (await wait).id == container.id
        simulator.clear_faults()


class BareEnds(SimulatorWire):
    """Wire on which the detail of an ended instance has no other field than its status."""

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        if b'"instance_status": "ENDED"' in reply.body and request.path != "/gpu/instances/":
            return attrs.evolve(reply, body=b'{"instance_status": "ENDED"}')
        return reply


async def test_a_status_alone_proves_an_end() -> None:
    simulator = Simulator()
    async with Session(DEFAULT_API_KEY, wire=BareEnds(simulator), rate=FAST) as fluence:
        async with fluence.running(container_spec(simulator)):
            simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
            left = now()
        assert now() - left < 60
        assert simulator.live() == []
        assert fluence.custody.ending == ()
        simulator.clear_faults()
