"""Ctrl-C once and twice, SIGTERM, SIGKILL: real processes against the simulator's server.

In step by the lines that the child prints, never by the time that something may take.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import aiofluence
from aiofluence import DeployPolicy, Poll, RateLimit, Session
from aiofluence.simulator import Provisioning, Simulator, SimulatorServer

from .programs import Program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")

SPEED = 100.0
NEVER = Provisioning(median=1e9, sigma=0.0)
SOON = Provisioning(median=150, sigma=0.0)

PROGRAM = """
import asyncio, sys, aiofluence
from aiofluence import ContainerSpec, Poll, RateLimit, Session

def say(*words):
    print(*words, flush=True)

async def main(plan_id, journal, use):
    session = Session(
        poll=Poll(interval=0.05), rate=RateLimit(1000, 1000), journal=journal or None,
        on_reply=lambda call, reply: say(call.method),
    )
    spec = ContainerSpec(name="exp-1", plan_id=plan_id, image="ollama/ollama:0.6.5", expose=[11434])
    async with session as fluence:
        try:
            if use == "running":
                async with fluence.running(spec):
                    say("inside")
                    await asyncio.sleep(3600)
            container = await fluence.deploy_and_wait(spec, adopt=use == "adopt")
            say("has", container.id)
        except asyncio.CancelledError:
            say("cancelled")
            raise

runner, *arguments = sys.argv[1:]
{"asyncio": asyncio.run, "aiofluence": aiofluence.run}[runner](main(*arguments))
"""


class Child:
    """A program that uses the library, and what it says."""

    def __init__(self, process: Program) -> None:
        self._process = process

    async def says(self, word: str) -> str:
        """Read its lines up to the first that begins with `word`."""
        assert self._process.stdout is not None
        while line := await asyncio.to_thread(self._process.stdout.readline):
            if line.split()[0] == word:
                return line.strip()
        raise AssertionError(f"it never said {word!r}: {(await self.ended())[1]}")

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Its exit code, and what it told on stderr."""
        _, told = await asyncio.to_thread(self._process.communicate)
        return self._process.returncode, told or ""


class World:
    """A simulated service on a port, and programs that use it."""

    def __init__(self, simulator: Simulator, server: SimulatorServer) -> None:
        self.simulator = simulator
        self.server = server
        self.plan_id = simulator.catalog.find("container").id
        self._processes: list[Program] = []

    async def start(
        self,
        runner: str,
        use: str = "wait",
        journal: Path | None = None,
        *,
        program: str = PROGRAM,
        stderr: int = subprocess.PIPE,
    ) -> Child:
        env = {"FLUENCE_API_KEY": self.simulator.api_key, "FLUENCE_BASE_URL": self.server.url}
        arguments = (runner, self.plan_id, str(journal or ""), use)
        process = await asyncio.to_thread(Program, program, *arguments, env=os.environ | env, stderr=stderr)
        self._processes.append(process)
        return Child(process)

    def session(self, journal: Path | None = None) -> Session:
        return Session(
            self.simulator.api_key,
            base_url=self.server.url,
            rate=RateLimit(1000, 1000),
            poll=Poll(interval=0.05),
            deploy=DeployPolicy(settle=1, watch=1),
            journal=journal,
        )

    def hurry(self, *, slowly: bool = False) -> None:
        """From now on simulated time runs a hundred times as fast as ours; or as slowly as ours."""
        self.server.time_scale = 1.0 if slowly else SPEED

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@asynccontextmanager
async def world(provisioning: Provisioning) -> AsyncIterator[World]:
    simulator = Simulator(provisioning=provisioning)
    async with SimulatorServer(simulator) as server:
        made = World(simulator, server)
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("use", ["wait", "running"])
@pytest.mark.parametrize(
    ("runner", "number", "code"),
    [
        ("asyncio", signal.SIGINT, -signal.SIGINT),
        ("aiofluence", signal.SIGINT, -signal.SIGINT),
        ("aiofluence", signal.SIGTERM, 143),
        ("aiofluence", getattr(signal, "SIGHUP", 1), 129),
    ],
)
async def test_a_signal_is_drained(runner: str, number: int, code: int, use: str) -> None:
    async with world(SOON) as service:
        child = await service.start(runner, use)
        await child.says("GET")  # its instance exists, and is minutes from being ACTIVE
        if use == "running":
            service.hurry()
            await child.says("inside")
            service.hurry(slowly=True)
        assert len(service.simulator.live()) == 1
        child.send(number)
        await child.says("cancelled")
        service.hurry()
        assert (await child.ended())[0] == code
        service.simulator.advance(service.server.now())
        assert service.simulator.live() == []
        assert service.simulator.reserved() == 0


@pytest.mark.parametrize(
    ("runner", "first", "second", "code"),
    [
        ("asyncio", signal.SIGINT, signal.SIGINT, -signal.SIGINT),
        ("aiofluence", signal.SIGINT, signal.SIGINT, -signal.SIGINT),
        ("aiofluence", signal.SIGTERM, signal.SIGTERM, 143),
        ("aiofluence", signal.SIGTERM, signal.SIGINT, -signal.SIGINT),
    ],
)
async def test_a_second_signal_leaves_at_once_and_tells(
    runner: str, first: int, second: int, code: int
) -> None:
    async with world(NEVER) as service:
        child = await service.start(runner)
        await child.says("GET")
        child.send(first)
        await child.says("cancelled")
        await child.says("GET")  # it waits for its end
        child.send(second)
        returncode, told = await child.ended()
        assert returncode == code, told
        (live,) = service.simulator.live()
        assert live.id in told
        assert "sweep(prefix='exp-1')" in told
        assert "never retrieved" not in told
        assert "was destroyed" not in told


@pytest.mark.parametrize("together", [True, False])
async def test_signals_of_a_closed_terminal_are_drained(together: bool) -> None:
    """The kernel, the shell and systemd each send one; and every write to the terminal fails from then on."""
    async with world(SOON) as service:
        terminal, inside = os.openpty()
        child = await service.start("aiofluence", stderr=inside)
        os.close(inside)
        await child.says("GET")
        os.close(terminal)
        child.send(signal.SIGHUP)
        if together:
            child.send(signal.SIGTERM)
        await child.says("cancelled")
        child.send(signal.SIGHUP)
        service.hurry()
        # Of two signals at once either may come first: Python runs one's handler inside the other's.
        assert (await child.ended())[0] in ((129, 143) if together else (129,))
        service.simulator.advance(service.server.now())
        assert service.simulator.live() == []


async def test_nohup_stays_nohup() -> None:
    async with world(SOON) as service:
        program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PROGRAM}"
        child = await service.start("aiofluence", program=program)
        await child.says("GET")
        child.send(signal.SIGHUP)
        service.hurry()
        await child.says("has")
        assert await child.ended() == (0, "")


async def test_a_signal_to_a_forked_child_stays_there() -> None:
    program = PROGRAM.replace(
        'say("inside")',
        """up, say_up = os.pipe()
                    child = os.fork()
                    if not child:
                        os.write(say_up, b".")
                        while True:  # a signal just before one long sleep would be handled behind it
                            time.sleep(0.05)
                    os.read(up, 1)
                    os.kill(child, signal.SIGTERM)
                    say("inside", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                    return""",
    )
    async with world(SOON) as service:
        child = await service.start("aiofluence", "running", program=f"import os, signal, time\n{program}")
        await child.says("GET")
        service.hurry()
        assert await child.says("inside") == f"inside {-signal.SIGTERM}"
        assert (await child.ended())[0] == 0
        service.simulator.advance(service.server.now())
        assert service.simulator.live() == []


async def test_killed_and_run_again_with_adopt() -> None:
    async with world(SOON) as service:
        child = await service.start("aiofluence")
        await child.says("GET")
        child.send(signal.SIGKILL)
        assert (await child.ended())[0] == -signal.SIGKILL
        service.hurry()
        child = await service.start("aiofluence", "adopt")
        has = await child.says("has")
        assert await child.ended() == (0, "")
        assert [f"has {instance.id}" for instance in service.simulator.instances()] == [has]
        assert len(service.simulator.live()) == 1


async def test_killed_and_swept(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with world(SOON) as service:
        child = await service.start("aiofluence", "running", journal)
        await child.says("POST")
        async with service.session(journal) as fluence:
            assert (await fluence.sweep()).found == ()  # it is alive, so nothing is left behind
        child.send(signal.SIGKILL)
        await child.ended()
        async with service.session(journal) as fluence:
            report = await fluence.sweep()
            assert [ref.name for ref in report.left] == ["exp-1"]
            assert len(service.simulator.live()) == 1
            service.hurry()
            report = await fluence.sweep(dry_run=False)
            assert report.left == ()
        assert service.simulator.live() == []
        async with service.session(journal) as fluence:
            assert (await fluence.sweep()).found == ()


async def test_two_processes_adopt_one_name() -> None:
    async with world(SOON) as service:
        children = [await service.start("aiofluence", "adopt") for _ in range(2)]
        for child in children:
            await child.says("GET")
        service.hurry()
        has = {await child.says("has") for child in children}
        for child in children:
            assert (await child.ended())[0] == 0
        assert {f"has {instance.id}" for instance in service.simulator.live()} == has
        assert len(has) == 1


# --- run itself ---------------------------------------------------------------------------------------------


async def give(value: int) -> int:
    return value


async def fail() -> None:
    raise ZeroDivisionError


async def signalled(number: int) -> None:
    signal.raise_signal(number)
    await asyncio.sleep(60)


def test_run_is_asyncio_run() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert aiofluence.run(give(5)) == 5
    with pytest.raises(ZeroDivisionError):
        aiofluence.run(fail())
    with pytest.raises(SystemExit) as caught:
        aiofluence.run(signalled(signal.SIGTERM))
    assert caught.value.code == 143
    with pytest.raises(KeyboardInterrupt):
        aiofluence.run(signalled(signal.SIGINT))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_program_can_return_after_a_signal() -> None:
    async def stubborn() -> str:
        try:
            await signalled(signal.SIGTERM)
        except asyncio.CancelledError:
            return "done"
        return "never"

    assert aiofluence.run(stubborn()) == "done"


def test_a_cancellation_that_is_no_signal_is_none() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        aiofluence.run(gives_up())


def test_handlers_of_the_program_stay() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:

        async def main() -> None:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)

        aiofluence.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_run_in_another_thread() -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(aiofluence.run(give(7))))
    thread.start()
    thread.join()
    assert results == [7]


def test_importing_installs_no_handler() -> None:
    code = (
        "import signal; before = [signal.getsignal(n) for n in (1, 2, 15)]; import aiofluence;"
        "assert before == [signal.getsignal(n) for n in (1, 2, 15)]"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
