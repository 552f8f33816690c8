"""A session belongs to one event loop, one thread and one process: from another it is refused, never hung.

Asserts on what reached the service: nothing does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiofluence import ConfigError, ContainerUpdate, InstanceRef, Kind, Session
from aiofluence.simulator import Simulator, run_virtual

from .harness import IMAGE, container_spec, session_on
from .programs import run_program

REF = InstanceRef(Kind.CONTAINER, "5773b7d1-e85a-42f4-8efd-c2b02d8f6faf", "exp-1")
UPDATE = ContainerUpdate(name="exp-1", image=IMAGE)

Verb = Callable[[Session, Simulator], Awaitable[Any]]
VERBS: dict[str, Verb] = {
    "find": lambda f, s: f.plans.find(),
    "images": lambda f, s: f.images.list(),
    "list": lambda f, s: f.vms.list(),
    "deploy": lambda f, s: f.containers.deploy(container_spec(s)),
    "terminate": lambda f, s: f.containers.terminate(REF.id),
    "request": lambda f, s: f.request("GET", "/gpu/plans/"),
    "a view's": lambda f, s: f.with_options(timeout=5).containers.list(),
    "wait": lambda f, s: f.wait(REF),
    "deploy_and_wait": lambda f, s: f.deploy_and_wait(container_spec(s)),
    "update_and_wait": lambda f, s: f.update_and_wait(REF, UPDATE),
    "terminate_and_wait": lambda f, s: f.terminate_and_wait(REF),
    "ensure": lambda f, s: f.ensure(container_spec(s)),
    "running": lambda f, s: f.running(container_spec(s)).__aenter__(),
    "deploy_all_and_wait": lambda f, s: f.deploy_all_and_wait([container_spec(s)]),
    "launch": lambda f, s: f.launch([container_spec(s)]).__aenter__(),
    "tail_logs": lambda f, s: anext(f.tail_logs(REF)),
    "tail_events": lambda f, s: anext(f.tail_events(REF)),
    "tail_all": lambda f, s: anext(f.tail_all([REF])),
    "sweep": lambda f, s: f.sweep(prefix="exp-"),
    "close": lambda f, s: f.__aexit__(None, None, None),
}


@pytest.mark.parametrize("name", VERBS)
def test_another_loop_is_refused_at_once(name: str) -> None:
    simulator = Simulator()

    async def elsewhere(session: Session) -> None:
        with pytest.raises(ConfigError, match="another event loop"):
            await VERBS[name](session, simulator)

    async def main() -> None:
        async with session_on(simulator) as session:
            await session.plans.containers()
            seen = simulator.count()
            await asyncio.to_thread(asyncio.run, elsewhere(session))
            assert simulator.count() == seen
            assert await session.containers.list() == []  # it is none the worse for it

    asyncio.run(main())
    assert simulator.instances() == []


def test_a_call_does_not_continue_in_another_loop() -> None:
    """A launch, a tail and a block that were entered in the session's loop."""
    simulator = Simulator()

    async def main() -> None:
        async with session_on(simulator) as session:
            running = session.running(container_spec(simulator, "exp-1"))
            container = await running.__aenter__()
            launch = session.launch([container_spec(simulator, "exp-2")])
            await launch.__aenter__()
            tail = session.tail_logs(container)
            await anext(tail)

            async def elsewhere() -> None:
                for step in (
                    tail.__anext__,
                    launch.__anext__,
                    launch.complete,
                    lambda: launch.__aexit__(None, None, None),
                    lambda: running.__aexit__(None, None, None),
                ):
                    with pytest.raises(ConfigError, match="another event loop"):
                        await step()

            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, asyncio.run, elsewhere())
            assert (await launch.complete()).ready
            await session.terminate_and_wait(launch.report.ready[0].instance)  # type: ignore[arg-type]
            assert [instance.name for instance in simulator.live()] == ["exp-1"]

    run_virtual(main)
    assert simulator.live() == []  # the block's container was never out of custody


def test_one_loop_after_another() -> None:
    simulator = Simulator()
    session = session_on(simulator)
    asyncio.run(session.__aenter__())
    with pytest.raises(ConfigError, match="another event loop"):
        asyncio.run(session.containers.list())
    assert simulator.count() == 0


def test_no_asyncio_here_as_under_trio() -> None:
    session = session_on(Simulator())
    for step in (
        session.__aenter__(),
        session.plans.containers(),
        session.deploy_and_wait(container_spec(Simulator())),
    ):
        with pytest.raises(ConfigError, match="asyncio"):
            step.send(None)


FORK = """
import asyncio, os, sys, traceback
from aiofluence import ConfigError, Session
from aiofluence.simulator import Simulator, SimulatorServer
from tests.test_owner import VERBS

simulator = Simulator()

async def refused(session):
    for name, verb in VERBS.items():
        try:
            await verb(session, simulator)
        except ConfigError:
            continue
        raise AssertionError(name)

def in_child(work):
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

def step(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")

with asyncio.Runner() as runner:
    server = SimulatorServer(simulator)
    runner.run(server.__aenter__())
    made = Session(simulator.api_key, base_url=server.url)
    session = Session(simulator.api_key, base_url=server.url, journal="journal")
    runner.run(session.__aenter__())
    runner.run(session.containers.list())
    seen = simulator.count()

    async def from_within():
        in_child(lambda: step(refused(session)))

    runner.run(from_within())
    in_child(lambda: runner.run(refused(session)))
    in_child(lambda: asyncio.Runner().run(refused(session)))
    assert simulator.count() == seen

    child = os.fork()
    if not child:
        del session
        sys.exit(0)  # as any program ends: everything is garbage now, the pool with its connection, too
    assert os.waitpid(child, 0)[1] == 0
    runner.run(session.containers.list())
    runner.run(session.__aexit__(None, None, None))
    runner.run(server.__aexit__(None, None, None))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system call")
def test_a_forked_child_is_refused(tmp_path: Path) -> None:
    done = run_program(FORK, warnings="ignore", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
