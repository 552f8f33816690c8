"""Lives of `aiofluence conformance --level paid`: 15 % random faults, and SIGKILL at a random request.

Each life is a process on virtual time. At the kill it forks a survivor, which keeps only the simulated
service, and dies by SIGKILL: its journal and its locks are left as a kill leaves them. POSIX only.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import attrs

from aiofluence import DeployPolicy, FluenceError, Reply, Request, Session
from aiofluence.conformance.probe import Level
from aiofluence.conformance.run import Conformance
from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorWire, VirtualClockLoop

from ..harness import FAST
from .bench import Door

FAULTS = 0.15
REQUESTS = 480
"""Requests within which a life is killed. Most runs have more at this rate of faults."""


@attrs.frozen
class Life:
    """Result of a life.

    Attributes:
        killed_at: number of the request at which the process was killed. None if the run ended before.
        then: action after the kill: a second run, or a sweep.
        left: live instances after that action.
        dearest: largest sum that one run has spent, in USDC.
        max_cost: limit of each run.
        deployed: number of instances of all runs.
        error: traceback, if the life itself has failed.
    """

    seed: int
    killed_at: int | None = None
    then: str = ""
    left: tuple[str, ...] = ()
    dearest: Decimal = Decimal(0)
    max_cost: Decimal = Decimal(0)
    deployed: int = 0
    error: str = ""

    @property
    def is_sound(self) -> bool:
        return not (self.left or self.error) and self.dearest <= self.max_cost


class DeadlyWire(SimulatorWire):
    """Wire that ends the process at its n-th request, before or after the request takes effect."""

    def __init__(self, simulator: Simulator, number: int, *, is_after: bool) -> None:
        super().__init__(simulator)
        self.number = number
        self.is_after = is_after
        self.is_dead = False

    async def send(self, request: Request) -> Reply:
        self.number -= 1
        is_last = self.number == 0
        if is_last and not self.is_after:
            await self._die()
        try:
            return await super().send(request)
        finally:
            if is_last and self.is_after:
                await self._die()

    async def _die(self) -> None:
        self.is_dead = True
        loop = asyncio.get_running_loop()
        loop.stop()
        await loop.create_future()


async def paid(wire: SimulatorWire, journal: Path, max_cost: Decimal) -> None:
    """Run all levels, as the command does."""
    run = Conformance(max_cost=max_cost)
    for level in Level.PAID.included:
        kept = None if level is Level.FREE else journal
        with suppress(FluenceError):  # at this rate of faults, a session may fail as a whole
            async with Session(
                DEFAULT_API_KEY, wire=Door(wire), rate=FAST, journal=kept, deploy=DeployPolicy(max_posts=1)
            ) as session:
                if level is Level.FREE:
                    await run.find_prices(session)
                else:
                    await session.sweep(dry_run=False)
                await run.run(session, level)


async def sweep(wire: SimulatorWire, journal: Path) -> None:
    async with Session(DEFAULT_API_KEY, wire=Door(wire), rate=FAST, journal=journal) as session:
        for _ in range(5):
            with suppress(FluenceError):
                report = await session.sweep(dry_run=False)
                if not (report.left or report.failed or report.unsettled):
                    return
            await asyncio.sleep(120)


def live(seed: int) -> Life:
    """Live one life in a process of its own, and return its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _process(seed, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return _read(seed, said)


def _read(seed: int, said: str) -> Life:
    if not said:
        return Life(seed, error="the survivor said nothing")
    shape = json.loads(said)
    return Life(**shape | {name: Decimal(shape[name]) for name in ("dearest", "max_cost")})


def _process(seed: int, writer: int) -> NoReturn:
    try:
        with tempfile.TemporaryDirectory() as folder:
            _first_run(seed, writer, Path(folder) / "observations.json.journal")
    except BaseException:
        _say(writer, Life(seed, error=traceback.format_exc()))
    os._exit(0)


def _first_run(seed: int, writer: int, journal: Path) -> None:
    rng = Random(seed)
    minute = rng.choice((2, 2, 2, 20, 55))
    simulator = Simulator(seed, start=datetime(2026, 1, 1, 9, minute, tzinfo=UTC))
    simulator.random_faults(FAULTS)
    price = simulator.catalog.find("container").hourly
    max_cost = 4 * price + 2 * simulator.catalog.find("vm").hourly
    wire = DeadlyWire(simulator, rng.randint(1, REQUESTS), is_after=rng.random() < 0.5)
    number = wire.number
    loop = VirtualClockLoop()
    asyncio.set_event_loop(loop)
    main = loop.create_task(paid(wire, journal, max_cost))
    main.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    first = [instance.id for instance in simulator.instances()]
    if not wire.is_dead:
        main.result()
        _say(writer, _result(simulator, Life(seed, max_cost=max_cost), [first]))
        return
    then = rng.choice(("run", "sweep"))
    process = os.getpid()
    survivor = os.fork()
    if survivor:
        os.kill(process, signal.SIGKILL)
    while os.getppid() == process:
        time.sleep(0.001)
    os.closerange(3, writer)  # locks and files of the dead process
    os.closerange(writer + 1, 256)
    kept = (loop, main)  # never run again, and never collected: their files are closed
    wire = DeadlyWire(simulator, 0, is_after=False)

    async def act() -> None:
        if then == "run":
            await paid(wire, journal, max_cost)
        await sweep(wire, journal) if then == "sweep" else None

    asyncio._set_running_loop(None)
    after = VirtualClockLoop()
    after.run_until_complete(act())
    second = [instance.id for instance in simulator.instances() if instance.id not in first]
    life = Life(seed, killed_at=number, then=then, max_cost=max_cost)
    _say(writer, _result(simulator, life, [first, second]))
    assert kept
    os._exit(0)


def _result(simulator: Simulator, life: Life, runs: list[list[str]]) -> Life:
    return attrs.evolve(
        life,
        left=tuple(instance.name for instance in simulator.live()),
        dearest=max(sum(map(simulator.spent, run), Decimal(0)) for run in runs),
        deployed=sum(map(len, runs)),
    )


def _say(writer: int, life: Life) -> None:
    with open(writer, "w", encoding="utf-8") as pipe:
        json.dump(attrs.asdict(life), pipe, default=str)


def lives(seeds: range, say: Callable[[Life], Any]) -> list[Life]:
    """Live several lives, one after the other."""
    found = []
    for seed in seeds:
        found.append(live(seed))
        say(found[-1])
    return found
