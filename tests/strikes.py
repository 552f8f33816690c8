"""Ctrl-C at each line of the synchronous bridge: `python -m tests.strikes deploy 1 KeyboardInterrupt`.

Each strike forks a process, which runs a scenario and raises the exception at one trace event, as the
interpreter may. The report names every process that hung, or left an instance that its program neither holds
nor learned about. POSIX only. This is a program and no test module, because a test process has threads.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs

from aiofluence import Poll, RateLimit, WaitTimeoutError
from aiofluence.simulator import Provisioning, Simulator, SimulatorWire
from aiofluence.sync import Session, bridge as door

from .harness import container_spec

BRIDGE: Final = str(Path(door.__file__).parent)
LIMIT: Final = 20.0
"""Seconds until a process counts as hung. On an idle machine each takes less than one."""
AT_ONCE: Final = 4
NOISE: Final = ("Exception ignored", "never retrieved", "was destroyed", "never awaited")


class Striker:
    """Trace function that raises `error` at the trace event of that number, if there are so many."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.left = number
        self.where = ""
        self._error = error

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(BRIDGE):
            return None
        if event in ("call", "line"):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(None)
                raise self._error
        return self

    def begin(self) -> None:
        sys.settrace(self)


def session_of(simulator: Simulator, **options: Any) -> Session:
    return Session(
        simulator.api_key,
        wire=SimulatorWire(simulator, latency=0.002),
        rate=RateLimit(1000, 1000),
        poll=Poll(interval=0.02, expected=0.05, earliest=0.01),
        **options,
    )


def empty_session(simulator: Simulator, striker: Striker, held: list[str]) -> None:
    """Strike from before the start of a session until after its end."""
    session = session_of(simulator)
    striker.begin()
    with session:
        pass


def deploy(simulator: Simulator, striker: Striker, held: list[str]) -> None:
    """Strike one call that hands an instance over."""
    with session_of(simulator) as fluence:
        spec = container_spec(simulator)
        striker.begin()
        held.append(fluence.containers.deploy(spec).id)
        sys.settrace(None)


def blocks(simulator: Simulator, striker: Striker, held: list[str]) -> None:
    """Strike an instance inside a block, and a launch."""
    with session_of(simulator) as fluence:
        spec = container_spec(simulator)
        striker.begin()
        with fluence.running(spec):
            pass
        with fluence.launch([spec]) as launch:
            for outcome in launch:
                assert outcome.instance is not None
                held.append(outcome.instance.id)
        sys.settrace(None)


def close(simulator: Simulator, striker: Striker, held: list[str]) -> None:
    """Strike the end of a session that has an instance to end."""
    with session_of(simulator) as fluence:
        ref = fluence.containers.deploy(container_spec(simulator))
        fluence.call(fluence._door.give_back, ref)
        striker.begin()


def second(simulator: Simulator, striker: Striker, held: list[str]) -> None:
    """Strike the end of a session a second time. Its instance never becomes ACTIVE."""
    simulator.provisioning = Provisioning(median=1e9, sigma=0.0)
    with session_of(simulator, close_timeout=6.0) as fluence:
        with contextlib.suppress(WaitTimeoutError):
            fluence.deploy_and_wait(container_spec(simulator), timeout=0.1)
        striker.begin()
        raise KeyboardInterrupt


SCENARIOS: Final[dict[str, Callable[[Simulator, Striker, list[str]], None]]] = {
    scenario.__name__: scenario for scenario in (empty_session, deploy, blocks, close, second)
}


@attrs.frozen
class Process:
    """A process, struck at one trace event."""

    number: int
    pid: int
    output: int

    @classmethod
    def start(cls, scenario: str, number: int, error: type[BaseException]) -> Process:
        output, inside = os.pipe()
        pid = os.fork()
        if pid:
            os.close(inside)
            return cls(number, pid, output)
        os.dup2(inside, 2)
        # The exception reaches the module's end, where the child runs its scenario as a program of its own.
        raise _Struck(scenario, number, error)

    def ended(self, seconds: float) -> str | None:
        """Return the stderr of the ended process, or None if it has hung."""
        text = b""
        while select.select([self.output], [], [], seconds)[0]:
            if not (more := os.read(self.output, 65536)):
                os.waitpid(self.pid, 0)
                os.close(self.output)
                return text.decode()
            text += more
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


class _Struck(Exception):
    """Unwinds a child's stack, so that it can run as a program of its own."""


def live_through(scenario: str, number: int, error: type[BaseException]) -> None:
    simulator = Simulator(provisioning=Provisioning(median=0.05, sigma=0.0))
    held: list[str] = []
    striker = Striker(number, error)

    def testify() -> None:
        simulator.advance(simulator.now)
        lost = [(i.id, i.name) for i in simulator.live() if i.id not in held]
        alive = [thread.name for thread in threading.enumerate() if thread.name == "aiofluence"]
        said = json.dumps({"scenario": scenario, "where": striker.where, "lost": lost, "threads": alive})
        os.write(2, f"\ntestimony {said}\n".encode())

    atexit.register(testify)
    try:
        SCENARIOS[scenario](simulator, striker, held)
    finally:
        sys.settrace(None)


def judge(number: int, text: str | None) -> tuple[bool, str]:
    """Return whether the trace event exists, and the fault of its process or an empty text."""
    if text is None:
        return True, f"{number}: hung"
    said, _, testimony = text.rpartition("testimony ")
    if not testimony:
        return True, f"{number}: no testimony; {text}"
    facts = json.loads(testimony.splitlines()[0])
    unnamed = [id for id, name in facts["lost"] if not (id in said or name in said)]
    noise = [word for word in NOISE if word in said]
    if facts["scenario"] == "second" and facts["where"] and "Ctrl-C leaves at once" in said:
        noise.append("it waited all the same")
    wrong = f"{number}, at {facts['where']}: {unnamed} {noise} {facts['threads']}"
    return bool(facts["where"]), wrong if unnamed or noise or facts["threads"] else ""


def strikes(step: int) -> Iterator[int]:
    number = 1
    while True:
        yield number
        number += step


def main(scenario: str, step: int, error: type[BaseException]) -> None:
    numbers = strikes(step)
    running: list[Process] = []
    struck = 0
    wrong: list[str] = []
    is_more = True
    while is_more or running:
        while is_more and len(running) < AT_ONCE:
            running.append(Process.start(scenario, next(numbers), error))
        process = running.pop(0)
        was_struck, complaint = judge(process.number, process.ended(LIMIT))
        struck += was_struck
        is_more &= was_struck
        if complaint:
            wrong.append(complaint)
    sys.stdout.write(json.dumps({"struck": struck, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    _, _scenario, _step, _error = sys.argv
    _child: tuple[Any, ...] | None = None
    try:
        main(_scenario, int(_step), getattr(builtins, _error))
    except _Struck as _found:
        _child = _found.args
    if _child is not None:
        live_through(*_child)
