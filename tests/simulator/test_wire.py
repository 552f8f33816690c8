"""The simulator in process, on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

from aiofluence.errors import DecodeError, NoReplyError, NotSentError
from aiofluence.http.messages import Reply, Timeout, Wire
from aiofluence.simulator import Fault, Provisioning, Simulator, SimulatorWire, VirtualClockLoop, run_virtual

from .driver import EXACT, Driver, request, text

pytestmark = pytest.mark.anyio

DEPLOY = "POST /gpu/instances/"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.fixture
def sim() -> Simulator:
    return Simulator(provisioning=EXACT, profile="kind")


def clock() -> float:
    return asyncio.get_running_loop().time()


async def deploy(wire: Wire, name: str = "job", timeout: Timeout = Timeout()) -> Reply:
    body = Driver().container_body(name)
    return await wire.send(attrs.evolve(request("POST", "/gpu/instances/", body), timeout=timeout))


async def test_a_deploy_comes_up_in_the_loops_time(sim: Simulator) -> None:
    wire = SimulatorWire(sim, latency=0.02)
    instance_id = text(await deploy(wire))["instance_id"]
    assert clock() == pytest.approx(0.02)
    for expected, pause in (("INITIALIZED", 99.0), ("ACTIVE", 1.0)):
        await asyncio.sleep(pause)
        reply = await wire.send(request("GET", f"/gpu/instances/{instance_id}"))
        assert text(reply)["instance_status"] == expected


async def test_a_time_scale_makes_the_service_faster(sim: Simulator) -> None:
    wire = SimulatorWire(sim, time_scale=60.0)
    await deploy(wire)
    await asyncio.sleep(2.0)
    sim.advance(wire.now())
    assert sim.now == pytest.approx(120.6)
    assert sim.live()[0].state.value == "ACTIVE"


async def test_two_wires_in_one_loop_share_one_time(sim: Simulator) -> None:
    first, second = SimulatorWire(sim), SimulatorWire(sim)
    await deploy(first)
    await asyncio.sleep(50.0)
    assert first.now() == second.now() == pytest.approx(clock(), abs=0.02)


def test_a_new_loop_continues_the_time(sim: Simulator) -> None:
    async def run() -> float:
        wire = SimulatorWire(sim)
        await asyncio.sleep(1000.0)
        began = wire.now()
        await asyncio.sleep(10.0)
        sim.advance(wire.now())
        return began

    assert [run_virtual(run) for _ in range(3)] == [0.0, 10.0, 20.0]


async def test_refused_is_not_sent(sim: Simulator) -> None:
    sim.fail(DEPLOY, Fault.refuse())
    with pytest.raises(NotSentError):
        await deploy(SimulatorWire(sim))
    assert sim.count() == len(sim.live()) == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("fault", "phase"), [(Fault.reset(), "sent"), (Fault.cut(), "head")])
async def test_a_broken_connection_is_no_reply(sim: Simulator, when: Any, fault: Fault, phase: str) -> None:
    sim.fail(DEPLOY, fault, when=when)
    with pytest.raises(NoReplyError) as caught:
        await deploy(SimulatorWire(sim))
    assert caught.value.phase == phase
    assert clock() == pytest.approx(0.02)
    assert len(sim.live()) == (when == "after")


async def test_hanging_lasts_as_long_as_the_timeout(sim: Simulator) -> None:
    sim.fail(DEPLOY, Fault.hang(), when="after")
    with pytest.raises(NoReplyError):
        await deploy(SimulatorWire(sim), timeout=Timeout(total=45.0))
    assert clock() == pytest.approx(45.0)
    assert len(sim.live()) == 1


async def test_a_slow_answer_comes_in_time_or_never(sim: Simulator) -> None:
    wire = SimulatorWire(sim)
    sim.fail(DEPLOY, Fault.slow(30.0), times=2)
    assert (await deploy(wire, "one")).status == 201
    assert clock() == pytest.approx(30.02)
    with pytest.raises(NoReplyError):
        await deploy(wire, "two", timeout=Timeout(total=10.0))
    assert clock() == pytest.approx(40.02)
    assert len(sim.live()) == 2


async def test_a_commit_long_after_the_clients_timeout(sim: Simulator) -> None:
    wire = SimulatorWire(sim)
    sim.fail(DEPLOY, Fault.hang(), commit_after=80.0)
    with pytest.raises(NoReplyError):
        await deploy(wire)
    assert text(await wire.send(request("GET", "/gpu/instances/"))) == []
    await asyncio.sleep(20.0)
    assert len(text(await wire.send(request("GET", "/gpu/instances/")))) == 1


@pytest.mark.parametrize(("tick", "committed"), [(0.005, 0), (0.015, 1)])
async def test_a_cancelled_send_keeps_its_effect(sim: Simulator, tick: float, committed: int) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(tick):
            await deploy(SimulatorWire(sim, latency=0.02))
    assert len(sim.live()) == sim.count() == committed


async def test_closing_wakes_those_who_wait(sim: Simulator) -> None:
    wire = SimulatorWire(sim, latency=2.0)
    sim.fail(DEPLOY, Fault.hang())
    hanging = asyncio.create_task(deploy(wire))
    await asyncio.sleep(10.0)
    on_its_way = asyncio.create_task(deploy(wire))
    await asyncio.sleep(0.5)
    await wire.aclose()
    with pytest.raises(NoReplyError):
        await hanging
    with pytest.raises(NotSentError):
        await on_its_way
    with pytest.raises(NotSentError):
        await deploy(wire)
    assert clock() == pytest.approx(10.5)
    await wire.aclose()


async def test_too_large_an_answer(sim: Simulator) -> None:
    wire = SimulatorWire(sim)
    asked = attrs.evolve(request("GET", "/gpu/plans/"), max_body=1000)
    with pytest.raises(DecodeError):
        await wire.send(asked)
    sim.fail("GET /gpu/plans/", Fault.status(500, b"x" * 5000))
    reply = await wire.send(asked)
    assert (reply.status, len(reply.body)) == (500, 1000)


async def test_hundreds_of_launches_at_once() -> None:
    sim = Simulator(profile="kind", balance=10**6, provisioning=Provisioning(failure_rate=0.01))
    wire = SimulatorWire(sim)
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(deploy(wire, f"job-{number}"))
    await asyncio.sleep(600.0)
    rows = text(await wire.send(request("GET", "/gpu/instances/")))
    assert len(rows) == 300
    assert {row["instance_status"] for row in rows} == {"ACTIVE", "FAILED"}
