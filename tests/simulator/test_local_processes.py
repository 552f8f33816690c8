"""Startup commands that run as processes of this machine: real output, exits and ports, and no leftovers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from aiofluence import (
    Container,
    ContainerSpec,
    ContainerUpdate,
    InstanceFailedError,
    Poll,
    Session,
    Status,
    Until,
)
from aiofluence.simulator import (
    LIKELY,
    LocalProcesses,
    Provisioning,
    Simulator,
    SimulatorServer,
    SimulatorWire,
)

from ..harness import FAST, SSH_KEY, VIRTUAL, container_spec, is_gone, now
from ..test_readme import blocks
from .test_command import exports, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are POSIX's")

KEY = "a-key-of-our-own"
AT_ONCE = Provisioning(median=0.3, sigma=0, start_delay=0, network_delay=0, domain_delay=0, update_delay=0.1)
BRISK = Poll(interval=0.1)
# Says who it is, and waits.
WAITING = "sh -c 'echo group $$; exec sleep 600'"
# Says who it is, leaves a grandchild behind, and ignores SIGTERM in both.
STUBBORN = "sh -c 'trap \"\" TERM; sleep 600 & echo group $$; wait'"


def real_simulator() -> Simulator:
    return Simulator(api_key=KEY, provisioning=AT_ONCE, profile="kind")


@asynccontextmanager
async def session_on(simulator: Simulator, **options: Any) -> AsyncIterator[Session]:
    async with (
        SimulatorServer(simulator, processes=LocalProcesses(**options)) as server,
        Session(KEY, base_url=server.url, rate=FAST, poll=BRISK) as session,
    ):
        yield session


def spec_for(simulator: Simulator, command: str, **fields: Any) -> ContainerSpec:
    return container_spec(simulator, startup_command=command, **fields)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def lines_of(session: Session, container: Container, count: int) -> list[str]:
    """The container's log, once it has that many lines."""
    async with asyncio.timeout(20):
        while len(lines := await session.containers.logs(container.id)) < count:
            await asyncio.sleep(0.02)
    return [line.text for line in lines]


async def group_of(session: Session, container: Container) -> int:
    (line, *_) = await lines_of(session, container, 1)
    group = int(line.split()[1])
    assert not is_gone(group)
    return group


async def test_a_web_server_is_reached_at_its_address() -> None:
    simulator = real_simulator()
    command = f"sh -c 'exec {sys.executable} -u -m http.server --bind 127.0.0.1 $PORT_8000'"
    async with session_on(simulator) as session:
        spec = spec_for(simulator, command, expose=[8000])
        async with session.running(spec, until=Until.REACHABLE, timeout=30) as container:
            assert container.network is not None
            assert container.network.domain == "127.0.0.1"
            (port,) = container.network.forwarded_ports
            assert port.port == 8000
            url = f"http://127.0.0.1:{port.external_port}/"
            with await asyncio.to_thread(urllib.request.urlopen, url) as reply:
                assert b"Directory listing" in reply.read()
            # Standard error is in the log, too: that is where the server notes the request.
            log = await lines_of(session, container, 2)
            assert any('"GET / HTTP/1.1" 200' in line for line in log), log
        await until(lambda: not listens(port.external_port))
    assert simulator.live() == []


async def test_the_port_with_http_is_behind_the_uri() -> None:
    simulator = real_simulator()
    command = f"sh -c 'exec {sys.executable} -m http.server --bind 127.0.0.1 $PORT_80'"
    async with session_on(simulator) as session:
        spec = spec_for(simulator, command, expose=["80/http"])
        async with session.running(spec, until=Until.REACHABLE, timeout=30) as container:
            assert container.network is not None
            assert container.network.uri is not None
            with await asyncio.to_thread(urllib.request.urlopen, container.network.uri) as reply:
                assert reply.status == 200


async def test_a_process_sees_only_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUENCE_API_KEY", "the-key-of-this-shell")
    simulator = real_simulator()
    async with session_on(simulator) as session:
        spec = spec_for(simulator, "env", environment={"ONE": "1 and a bit"}, ssh_key=SSH_KEY)
        ref = await session.containers.deploy(spec)
        await until(lambda: not simulator.live())
        log = await session.containers.logs(ref.id)
    variables = dict(line.text.split("=", 1) for line in log)
    assert set(variables) == {"PATH", "HOME", "ONE", "SSH_PUBKEY", "PORT_22"}
    assert variables["ONE"] == "1 and a bit"
    assert variables["PATH"] == os.environ["PATH"]
    assert variables["HOME"] != os.environ.get("HOME")
    assert not await anyio.Path(variables["HOME"]).exists()  # it goes with its process


@pytest.mark.parametrize("code", [0, 3])
async def test_an_exit_ends_the_instance_and_refunds(code: int) -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        spec = spec_for(simulator, f"sh -c 'echo bye; printf half; exit {code}'")
        ref = await session.containers.deploy(spec)
        await until(lambda: not simulator.live())
        container = await session.containers.get(ref.id)
        assert container.status is Status.ENDED
        assert [line.text for line in await session.containers.logs(ref.id)] == ["bye", "half"]
        events = [event for event in await session.containers.events(ref.id) if event.reason == "Exited"]
        assert [str(event.type) for event in events] == ["Normal" if code == 0 else "Warning"]
        assert f"exited with code {code}" in events[0].message
    assert simulator.reserved() == 0
    assert simulator.spent() == simulator.catalog.find("container").hourly


async def test_under_likely_an_exit_is_a_restart() -> None:
    simulator = Simulator(api_key=KEY, profile=LIKELY.replace(provisioning=AT_ONCE))
    async with session_on(simulator) as session:
        spec = spec_for(simulator, "sh -c 'echo group $$; sleep 0.2; exit 3'")
        ref = await session.containers.deploy(spec)
        groups: set[str] = set()

        async def again() -> bool:
            if simulator.get_instance(ref.id).state == "ACTIVE":
                groups.update(line.text for line in await session.containers.logs(ref.id))
            return len(groups) >= 2

        async with asyncio.timeout(60):
            while not await again():
                await asyncio.sleep(0.05)
        assert simulator.get_instance(ref.id).state == "ACTIVE"
        assert not [event for event in await session.containers.events(ref.id) if event.reason == "Exited"]
        assert simulator.reserved() > 0
        await session.terminate_and_wait(ref)


@pytest.mark.parametrize("command", ["no-such-program --at-all", "sh -c 'unclosed", "''"])
async def test_a_failed_start_is_in_the_log(command: str) -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(spec_for(simulator, command))
        await until(lambda: not simulator.live())
        (line,) = await session.containers.logs(ref.id)
        assert line.text.startswith("cannot run the startup command: ")


async def test_one_process_too_many_fails_for_free() -> None:
    simulator = real_simulator()
    async with session_on(simulator, max_children=2) as session:
        specs = spec_for(simulator, WAITING, name="exp-{i}").many(3)
        report = await session.deploy_all_and_wait(specs, until=Until.READY, timeout=30)
        assert (len(report.ready), len(report.failed)) == (2, 1)
        error = report.failed[0].error
        assert isinstance(error, InstanceFailedError)
        assert error.events[-1].reason == "FailedScheduling"
        assert "at most 2 containers" in error.events[-1].message
        assert simulator.spent(report.failed[0].ref.id if report.failed[0].ref else None) == 0
        # A place is free again when its processes have ended, which is after their instance has.
        container = report.instances[0]
        assert isinstance(container, Container)
        group = await group_of(session, container)
        await session.terminate_and_wait(container)
        await until(lambda: is_gone(group))
        async with session.running(spec_for(simulator, WAITING, name="exp-4"), until=Until.READY):
            pass


async def test_sigkill_follows_the_grace_period() -> None:
    simulator = real_simulator()
    async with session_on(simulator, grace=0.3) as session:
        async with session.running(spec_for(simulator, STUBBORN), until=Until.READY) as container:
            group = await group_of(session, container)
            began = now()
        await until(lambda: is_gone(group))
        assert now() - began >= 0.3  # it was asked first


async def test_children_die_with_their_leader() -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(spec_for(simulator, "sh -c 'sleep 600 & echo group $$'"))
        await until(lambda: not simulator.live())
        (line,) = await session.containers.logs(ref.id)
        await until(lambda: is_gone(int(line.text.split()[1])))


async def test_closing_the_server_leaves_no_process() -> None:
    simulator = real_simulator()
    async with session_on(simulator, grace=0.2) as session:
        container = await session.deploy_and_wait(spec_for(simulator, STUBBORN), until=Until.READY)
        group = await group_of(session, container)
    await until(lambda: is_gone(group))


async def test_a_cancelled_close_kills_at_once() -> None:
    simulator = real_simulator()
    wire = SimulatorWire(simulator, processes=LocalProcesses(grace=600))
    session = Session(KEY, wire=wire, rate=FAST, poll=BRISK)
    await session.__aenter__()
    container = await session.deploy_and_wait(spec_for(simulator, STUBBORN), until=Until.READY)
    group = await group_of(session, container)
    closing = asyncio.create_task(wire.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until(lambda: is_gone(group))
    await session.__aexit__(None, None, None)


async def test_a_reset_ends_the_processes() -> None:
    simulator = real_simulator()
    async with session_on(simulator, grace=0.2) as session:
        talking = "sh -c 'trap \"\" TERM; echo group $$; while :; do echo more; sleep 0.05; done'"
        container = await session.deploy_and_wait(spec_for(simulator, talking), until=Until.READY)
        group = await group_of(session, container)
        simulator.reset()
        await until(lambda: is_gone(group))
        async with session.running(spec_for(simulator, WAITING, name="exp-2"), until=Until.READY) as another:
            assert not is_gone(await group_of(session, another))


async def test_an_update_replaces_the_process() -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        spec = spec_for(simulator, "sh -c 'echo group $$ at $PORT_22; exec sleep 600'")
        async with session.running(spec, until=Until.READY) as container:
            (before,) = await lines_of(session, container, 1)
            new = attrs.evolve(
                ContainerUpdate.from_container(container),
                startup_command="sh -c 'echo now $$ at $PORT_22; exec sleep 600'",
            )
            await session.update_and_wait(container, new)
            await until(lambda: is_gone(int(before.split()[1])))
            (after,) = await lines_of(session, container, 1)
            assert after.startswith("now ")
            assert after.split()[-1] == before.split()[-1]


async def test_endless_lines_and_bad_bytes() -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        code = "import sys; sys.stdout.buffer.write(b'a' * 200_000 + b'\\xff\\r\\nend\\n')"
        ref = await session.containers.deploy(spec_for(simulator, f'{sys.executable} -c "{code}"'))
        await until(lambda: not simulator.live())
        texts = [line.text for line in await session.containers.logs(ref.id)]
    assert texts[-1] == "end"
    assert "".join(texts[:-1]) == "a" * 200_000 + "�"
    assert len(texts) > 2


async def test_no_command_means_no_process() -> None:
    simulator = real_simulator()
    async with session_on(simulator) as session:
        async with session.running(container_spec(simulator), until=Until.READY) as container:
            assert await session.containers.logs(container.id) == []
            assert container.network is not None
            assert container.network.domain == "127.0.0.1"


def test_the_block_in_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, code),) = blocks("docs/simulator.md", "python")
    exec(compile(code, "docs/simulator.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.endswith("/ answers\n")


async def test_it_is_never_open_to_others() -> None:
    with pytest.raises(ValueError, match="not loopback"):
        SimulatorServer(real_simulator(), "0.0.0.0", allow_remote=True, processes=LocalProcesses())
    with pytest.raises(ValueError, match="api_key"):
        SimulatorServer(Simulator(), processes=LocalProcesses())


async def test_one_door_each() -> None:
    processes = LocalProcesses()
    async with SimulatorServer(real_simulator(), processes=processes):
        with pytest.raises(ValueError, match="of its own"):
            async with SimulatorServer(real_simulator(), processes=processes):
                pass  # pragma: no cover


@pytest.mark.parametrize("arguments", [{"max_children": 0}, {"grace": -1.0}, {"grace": float("nan")}])
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        LocalProcesses(**arguments)


@pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])
async def test_a_virtual_clock_refuses_processes() -> None:
    wire = SimulatorWire(real_simulator(), processes=LocalProcesses())
    async with Session(KEY, wire=wire) as session:
        with pytest.raises(ValueError, match="real time"):
            await session.containers.list()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_a_signal_ends_all_processes(name: str) -> None:
    with running("--port", "0", "--exec", "--time-scale", "2000") as process:
        told = await asyncio.to_thread(exports, process)
        assert told["FLUENCE_API_KEY"] != "simulator-key"
        async with Session(told["FLUENCE_API_KEY"], base_url=told["FLUENCE_BASE_URL"], poll=BRISK) as session:
            command = "sh -c 'sleep 600 & echo group $$; wait'"
            container = await session.deploy_and_wait(spec_for(Simulator(), command), until=Until.READY)
            group = await group_of(session, container)
        process.send_signal(getattr(signal, name))
        out, err = await asyncio.to_thread(process.communicate)
    assert (process.returncode, out, err) == (0, "", "")
    await until(lambda: is_gone(group))
