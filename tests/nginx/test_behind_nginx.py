"""The session behind a real nginx with TLS and `limit_req`: refused in part, restarted, without its upstream.

Real sockets, a real clock, and the simulator as upstream. What counts is what nginx has logged and what the
simulator has seen. `nox -s servers` runs these tests alone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme

from aiofluence import ContainerUpdate, DeployPolicy, RateLimit, Session
from aiofluence.http.aiohttp_wire import AiohttpWire
from aiofluence.http.messages import Call, Reply
from aiofluence.simulator import DEFAULT_API_KEY, LIKELY, Fault, Provisioning, Simulator, SimulatorServer

from ..harness import OTHER_IMAGE, container_spec, session_on, vm_spec
from .nginx import PROGRAM, Line, Nginx, free_port

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="nginx is not installed; on Debian: apt-get install nginx-light"
)

DEPLOY = "POST /gpu/instances/"
UPDATE = "PUT /gpu/instances/{id}"
TERMINATE = "DELETE /gpu/instances/vms/{id}"
QUICK = DeployPolicy(settle=1.0, watch=1.0, max_posts=20)
"""The simulator commits and lists at once, so that an unclear deploy need not take minutes here."""


@pytest.fixture
async def simulator() -> Simulator:
    """It lives now: nginx writes its own `Date`, by which a session tells its instances from older ones."""
    quick = Provisioning(median=0.0, start_delay=0.0, network_delay=0.0, update_delay=0.3)
    at_once = LIKELY.replace(minimum_runtime=0)  # time is real here, and machines are ended
    simulator = Simulator(start=datetime.now(UTC), provisioning=quick, profile=at_once)
    loop = asyncio.get_running_loop()
    simulator.seconds_at(loop, loop.time())  # its clock runs from here on, not from the first request
    return simulator


@asynccontextmanager
async def session_behind(nginx: Nginx, **options: Any) -> AsyncIterator[Session]:
    """A session that trusts nginx's certificate and would like to go four times as fast as nginx allows."""
    context = ssl.create_default_context()
    nginx.authority.configure_trust(context)
    options.setdefault("rate", RateLimit(per_second=4 * nginx.rate, burst=nginx.rate))
    wire = AiohttpWire(nginx.url, ssl_context=context)
    async with Session(
        DEFAULT_API_KEY, base_url=nginx.url, wire=wire, deploy=QUICK, close_timeout=10, **options
    ) as session:
        yield session


Calls: TypeAlias = list[Callable[[], Coroutine[Any, Any, object]]]


async def reads(simulator: Simulator, fluence: Session, number: int) -> Calls:
    """That many GETs, mixed: lists, details, catalogue. What they look at is made without nginx."""
    async with session_on(simulator) as direct:
        container = await direct.containers.deploy(container_spec(simulator, "looked-at"))
        vm = await direct.vms.deploy(vm_spec(simulator, "looked-at"))
    simulator.requests.clear()
    kinds: Calls = [
        fluence.containers.list,
        lambda: fluence.containers.get(container.id),
        fluence.vms.list,
        lambda: fluence.vms.get(vm.id),
        fluence.images.list,
    ]
    return [kinds[index % len(kinds)] for index in range(number)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what only the simulator can tell."""
    while not condition():
        await asyncio.sleep(0.005)


def share_refused(lines: Sequence[Line]) -> float:
    return sum(line.refused for line in lines) / len(lines)


def pace(lines: Sequence[Line]) -> float:
    """Requests a second that came to nginx, whether it let them pass or not."""
    return (len(lines) - 1) / (lines[-1].at - lines[0].at)


@pytest.mark.parametrize("refusal", [None, 429], ids=["503", "429"])
async def test_500_reads_above_the_rate_of_nginx(
    refusal: int | None, simulator: Simulator, tmp_path: Path, authority: trustme.CA
) -> None:
    async with (
        SimulatorServer(simulator) as server,
        Nginx(tmp_path, authority, server.port, refusal=refusal) as nginx,
        session_behind(nginx) as fluence,
    ):
        calls = await reads(simulator, fluence, 500)
        await asyncio.gather(*(call() for call in calls))
    log = nginx.log()
    passed = [line for line in log if not line.refused]
    assert {line.status for line in passed} == {200}
    assert {line.status for line in log if line.refused} == {refusal or 503}
    assert len(passed) == len(simulator.requests) == 500

    start, second = log[:50], log[log.index(passed[250]) :]
    assert share_refused(start) > 0.2  # measured: 0.5
    assert share_refused(second) < 0.1  # measured: 0.05
    assert 0.5 * nginx.rate < pace(second) < 1.25 * nginx.rate


async def test_60_deploys_above_the_rate_of_nginx(
    simulator: Simulator, tmp_path: Path, authority: trustme.CA
) -> None:
    names = [f"exp-{index}" for index in range(60)]
    async with (
        SimulatorServer(simulator) as server,
        Nginx(tmp_path, authority, server.port) as nginx,
        session_behind(nginx) as fluence,
    ):
        specs = [container_spec(simulator, name) for name in names]
        refs = await asyncio.gather(*map(fluence.containers.deploy, specs))
        live = {instance.id: instance.name for instance in simulator.live()}
        await asyncio.gather(*(fluence.containers.terminate(ref.id) for ref in refs))
    assert live == {ref.id: name for ref, name in zip(refs, names, strict=True)}
    assert {entry.instance_id for entry in simulator.ledger if entry.kind == "deploy"} == set(live)
    assert not simulator.live()
    for method in ("POST", "DELETE"):
        asked = [line for line in nginx.log() if line.method == method]
        assert any(line.refused for line in asked)
        assert sum(not line.refused for line in asked) == 60


async def test_nginx_restarted_in_the_middle(
    simulator: Simulator, tmp_path: Path, authority: trustme.CA
) -> None:
    """What is under way loses its answer, after the service has acted: it is looked for, not done twice."""
    answered: Counter[str] = Counter()

    def note(call: Call, reply: Reply) -> None:
        answered[call.method] += 200 <= reply.status < 300

    names = [f"exp-{index}" for index in range(10)]
    async with (
        SimulatorServer(simulator) as server,
        Nginx(tmp_path, authority, server.port) as nginx,
        session_behind(nginx, on_reply=note, max_in_flight=64) as fluence,
    ):
        calls = await reads(simulator, fluence, 500)
        async with session_on(simulator) as direct:
            changed = [await direct.containers.deploy(container_spec(simulator, f"c-{i}")) for i in range(10)]
            ended = [await direct.vms.deploy(vm_spec(simulator, f"vm-{i}")) for i in range(10)]
        simulator.requests.clear()
        for operation in (DEPLOY, UPDATE, TERMINATE):  # they act at once, and answer after nginx is gone
            simulator.fail(operation, Fault.slow(1.5), times=None)

        async with asyncio.TaskGroup() as group:
            for call in calls[:200]:
                group.create_task(call())
            await until(lambda: simulator.count() >= 150)
            for ref in changed:
                update = ContainerUpdate(name=f"{ref.name}-new", image=OTHER_IMAGE)
                group.create_task(fluence.containers.update(ref.id, update))
            for call in calls[200:]:
                group.create_task(call())
            for ref in ended:
                group.create_task(fluence.vms.terminate(ref.id))
            deploys = [
                group.create_task(fluence.containers.deploy(container_spec(simulator, name)))
                for name in names
            ]
            await until(lambda: all(simulator.count(name) >= 3 for name in (DEPLOY, UPDATE, TERMINATE)))
            await nginx.stop()
            await asyncio.sleep(1)  # a restart takes its time, and nobody listens meanwhile
            await nginx.start()

    for method in ("POST", "PUT", "DELETE"):  # or the test would prove nothing
        assert answered[method] < 10
    simulator.advance(simulator.now + 60)  # the updates have been applied by then
    made = {instance.id: instance.name for instance in simulator.instances() if instance.name in names}
    assert made == {task.result().id: name for task, name in zip(deploys, names, strict=True)}
    assert simulator.count(DEPLOY) == 10
    assert [simulator.get_instance(ref.id).name for ref in changed] == [f"c-{i}-new" for i in range(10)]
    assert not any(simulator.get_instance(ref.id).live for ref in ended)
    assert len(simulator.instances()) == 10 + 10 + 10 + 2  # the two are what the reads look at


async def test_the_upstream_gone_for_a_moment(
    simulator: Simulator, tmp_path: Path, authority: trustme.CA
) -> None:
    """nginx answers 502 for it, and every read is repeated until the service is back."""
    gone = asyncio.Event()

    def note(_: Call, reply: Reply) -> None:
        if reply.status == 502:
            gone.set()

    port = free_port()
    async with Nginx(tmp_path, authority, port) as nginx, session_behind(nginx, on_reply=note) as fluence:
        async with SimulatorServer(simulator, port=port):  # so that nginx holds connections that will break
            calls = await reads(simulator, fluence, 20)
            await asyncio.gather(*(call() for call in calls))
        async with asyncio.TaskGroup() as group:
            again = [group.create_task(call()) for call in calls]
            await gone.wait()
            async with SimulatorServer(simulator, port=port):
                await asyncio.wait(again)
    log = nginx.log()
    assert sum(line.status == 502 for line in log) > 0
    assert sum(line.status == 200 for line in log) == simulator.count() == 40
