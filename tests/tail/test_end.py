"""The end of a tail, on a service that keeps the logs of what is over, empties them, or refuses them.

Lines that can be had come; where the last ones may be missing stands a mark. Virtual time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiofluence import GapReason, InstanceRef, Kind, LogGap, LogLine, NotFoundError, Session, Until
from aiofluence.simulator import KIND, LIKELY, Fault, Profile, Simulator

from ..harness import VIRTUAL, container_spec, now, session_on

LIST = "GET /gpu/instances/"
LOGS = "GET /gpu/instances/{id}/logs"
STAYS = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
END = LogGap(GapReason.POD_GONE, 0, None)


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture(params=[KIND, LIKELY], ids=["kind", "likely"])
def profile(request: pytest.FixtureRequest) -> Profile:
    base: Profile = request.param
    return base.replace(cluster={"log_interval": None}, provisioning={"sigma": 0})


async def start(session: Session, simulator: Simulator) -> InstanceRef:
    ref = await session.containers.deploy(container_spec(simulator, image=STAYS))
    await session.wait(ref, until=Until.READY)
    return ref


def texts(items: list[LogLine | LogGap]) -> list[str]:
    return [item.text for item in items if isinstance(item, LogLine)]


@pytest.mark.parametrize("after", ["kept", "empty", "error"])
@pytest.mark.parametrize("pause", [0.0, 120.0])
async def test_the_end_of_a_log_comes_or_is_marked(profile: Profile, after: Any, pause: float) -> None:
    simulator = Simulator(profile=profile.replace(logs_after_end=after))
    async with session_on(simulator) as session:
        ref = await start(session, simulator)
        got: list[LogLine | LogGap] = []

        async def read() -> None:
            got.extend([item async for item in session.tail_logs(ref)])

        reader = asyncio.create_task(read())
        await asyncio.sleep(1)
        simulator.print(ref.id, *(f"step {number}" for number in range(50)))
        await asyncio.sleep(20 + pause)  # all of them were polled
        simulator.print(ref.id, "last words")
        ended = now()
        await session.containers.terminate(ref.id)
        await reader
        steps = [f"step {number}" for number in range(50)]
        last = got.pop() if after != "kept" else None
        assert texts(got) == ([*steps, "last words"] if after == "kept" else steps)
        assert len(got) == len(texts(got))
        assert last is None or (isinstance(last, LogGap) and last.reason is GapReason.POD_GONE)
        # The first answer without the lines is reason enough to ask for the status.
        assert now() - ended < {"kept": 75, "empty": 25, "error": 100}[after]


@pytest.mark.parametrize("after", ["empty", "error"])
async def test_a_log_that_was_gone_before_is_marked(profile: Profile, after: Any) -> None:
    simulator = Simulator(profile=profile.replace(logs_after_end=after))
    async with session_on(simulator) as session:
        ref = await start(session, simulator)
        simulator.print(ref.id, "one", "two")
        await session.terminate_and_wait(ref)
        began = now()
        assert [item async for item in session.tail_logs(ref)] == [END]
        assert now() - began < 100
        many = [(tagged.ref, tagged.line) async for tagged in session.tail_all([ref])]
        assert many == [(ref, END)]


@pytest.mark.parametrize("creating", ["empty", "error"])
async def test_a_log_refused_at_first_loses_no_line(profile: Profile, creating: Any) -> None:
    simulator = Simulator(profile=profile.replace(logs_while_creating=creating))
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(container_spec(simulator, image=STAYS))
        got: list[LogLine | LogGap] = []

        async def read() -> None:
            got.extend([item async for item in session.tail_logs(ref, last=1000)])

        reader = asyncio.create_task(read())
        await session.wait(ref, until=Until.READY)
        for number in range(100):
            simulator.advance(now())
            simulator.print(ref.id, f"step {number}")
            await asyncio.sleep(0.5)
        await asyncio.sleep(40)
        await session.terminate_and_wait(ref)
        await reader
        lines = [text for text in texts(got) if text.startswith("step")]
        assert lines == [f"step {number}" for number in range(100)]
        assert [item for item in got[:-1] if isinstance(item, LogGap)] == []


async def test_a_gateway_s_404_ends_no_tail(profile: Profile) -> None:
    simulator = Simulator(profile=profile)
    async with session_on(simulator) as session:
        ref = await start(session, simulator)
        tail = session.tail_logs(ref)
        simulator.fail("GET /gpu/instances/{id}*", Fault.status(404), times=None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await anext(tail)
        simulator.clear_faults()
        simulator.print(ref.id, "still here")
        item = await anext(tail)
        assert isinstance(item, LogLine)
        assert item.text == "still here"
        await session.terminate_and_wait(ref)


async def test_a_list_that_lacks_live_ids_is_no_proof(profile: Profile) -> None:
    simulator = Simulator(profile=profile)
    async with session_on(simulator) as session:
        ref = await start(session, simulator)
        await asyncio.sleep(120)
        tail = session.tail_logs(InstanceRef(Kind.CONTAINER, "nobody", "nobody"))
        simulator.fail(LIST, Fault.body([]), times=None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await anext(tail)
        simulator.clear_faults()
        with pytest.raises(NotFoundError):
            await anext(tail)
        await session.terminate_and_wait(ref)
