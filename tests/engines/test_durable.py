"""Durable launches, as the docs' examples have them: killed at random moments, ended early, refused.

Real processes and engines, a real clock in time-lapse. What counts is the simulator's ledger, and what is
left running. `nox -s engines` runs these tests and those of Dask alone.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from aiofluence.http.codec import payload
from aiofluence.http.messages import Request
from aiofluence.simulator import DEFAULT_API_KEY, Fault, SimulatorServer

from ..harness import container_spec
from .lapse import SCALE
from .lives import LATE, POST, RUN, SECRET, World, live_and_die, service

for _engine in ("dbos", "temporalio"):
    pytest.importorskip(_engine)

LIST = "GET /gpu/instances/"

DBOS = pytest.param(
    "durable_dbos",
    marks=pytest.mark.skipif(
        sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42),
        reason="on this Python, DBOS needs SQLite 3.42",
    ),
)
TEMPORAL = "durable_temporal"
BOTH = pytest.mark.parametrize("engine", [DBOS, TEMPORAL])

SIZE = int(os.environ.get("DURABLE_SIZE", "8"))
KILLS = int(os.environ.get("DURABLE_KILLS", "2"))
SEED = int(os.environ.get("DURABLE_SEED", "1"))

pytestmark = pytest.mark.timeout(400 + 20 * KILLS)  # for a busy machine


@BOTH
async def test_a_killed_launch_continues_once(engine: str, tmp_path: Path) -> None:
    figures = await live_and_die(engine, tmp_path, size=SIZE, kills=KILLS, seed=SEED, lost=0.25)
    names = [f"{RUN}-{index:03}" for index in range(SIZE)]
    assert figures.launching > 0
    assert figures.lost > 0
    assert sorted(figures.live) == names
    assert figures.deploys == dict.fromkeys(names, 1)
    assert figures.result == str(SIZE)
    assert figures.left == 0
    assert not keeps_secret(tmp_path)


@BOTH
async def test_killed_at_the_worst_moment_it_pays_once(engine: str, tmp_path: Path) -> None:
    """Both deploys are sent and not answered; they are committed when the next life has looked already, or,
    if it takes its time, as late as the service may."""
    simulator = service()
    simulator.fail(POST, Fault.hang(), times=2)
    async with SimulatorServer(simulator, time_scale=SCALE) as server:
        world = World(engine, tmp_path, server, careless="CARELESS" in os.environ)
        try:
            await world.open(2)
            await world.start_worker()
            await world.deploying(2)
            sent = server.now()
            await world.kill_worker()
            looks = simulator.count(LIST)
            await world.start_worker()
            while simulator.count(LIST) == looks and server.now() < sent + LATE:
                await asyncio.sleep(0.01)
            for name in (f"{RUN}-000", f"{RUN}-001"):
                spec = container_spec(simulator, name)
                headers = {"X-API-KEY": DEFAULT_API_KEY}
                request = Request("POST", "/gpu/instances/", headers=headers, body=payload(spec))
                simulator.handle(request, server.now())
            await world.hear("ready:")
            simulator.advance(server.now())
            assert sorted(instance.name for instance in simulator.live()) == [f"{RUN}-000", f"{RUN}-001"]
            await world.end_run()
            said = await world.over()
        finally:
            await world.close()
    assert len(simulator.instances()) == 2, said
    assert not simulator.live(), said


@BOTH
async def test_ended_while_it_launches_nothing_is_left(engine: str, tmp_path: Path) -> None:
    simulator = service()
    async with SimulatorServer(simulator, time_scale=SCALE) as server:
        world = World(engine, tmp_path, server)
        try:
            await world.open(4)
            await world.start_worker()
            await world.deploying()
            await world.end_run("cancel" if engine == TEMPORAL else "stop")
            said = await world.over()
        finally:
            await world.close()
        simulator.advance(server.now())
    assert len(simulator.instances()) == 4, said
    assert not simulator.live(), said


@BOTH
async def test_sigterm_ends_the_process_and_not_the_run(engine: str, tmp_path: Path) -> None:
    simulator = service()
    async with SimulatorServer(simulator, time_scale=SCALE) as server:
        world = World(engine, tmp_path, server)
        try:
            await world.open(2)
            await world.start_worker()
            await world.hear("ready:")
            assert await world.kill_worker(signal.SIGTERM) == 128 + signal.SIGTERM
            simulator.advance(server.now())
            assert len(simulator.live()) == 2
            await world.start_worker()
            await world.end_run()
            said = await world.over()
        finally:
            await world.close()
    assert "ended: 2" in said
    assert len(simulator.instances()) == 2
    assert not simulator.live()


@BOTH
async def test_a_refusal_is_final(engine: str, tmp_path: Path) -> None:
    simulator = service()
    async with SimulatorServer(simulator, time_scale=SCALE) as server:
        world = World(engine, tmp_path, server, plan_id="no-such-plan")
        try:
            await world.open(2)
            await world.start_worker()
            said = await world.over()
        finally:
            await world.close()
    assert simulator.count(POST) == 2, said
    assert not any(line.startswith("ended:") for line in said.splitlines())


def keeps_secret(folder: Path) -> bool:
    """As it is, or in base64, in which DBOS keeps what it pickles."""
    data = b"".join(path.read_bytes() for path in folder.iterdir())
    secret = SECRET.encode()
    middles = [base64.b64encode(bytes(shift) + secret)[4:-4] for shift in range(3)]
    return any(part in data for part in [secret, *middles])
