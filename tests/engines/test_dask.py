"""A Dask cluster on the fleet. The simulator runs the workers, so that what is computed here is computed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

if "CI" not in os.environ:  # there it must be installed
    pytest.importorskip("distributed")

import dask
from distributed import Client, Scheduler, Security, Worker
from distributed.comm.core import connect
from distributed.core import Status

from aiofluence import (
    ConfigError,
    ContainerSpec,
    InstanceFailedError,
    LifecycleError,
    Poll,
    Session,
    SpecError,
    WaitTimeoutError,
)
from aiofluence.dask import FluenceCluster
from aiofluence.dask.addresses import WORKER_PORT, contact_problems
from aiofluence.dask.cluster import pause_after
from aiofluence.simulator import LocalProcesses, Provisioning, Simulator, SimulatorServer

from ..harness import FAST, container_spec, is_gone
from ..test_readme import blocks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are POSIX's")

KEY = "a-key-of-our-own"
AT_ONCE = Provisioning(median=0.5, sigma=0, start_delay=0, network_delay=0, domain_delay=0)
BRISK = Poll(interval=0.1)
ONE_THREAD = {"nthreads": 1, "memory_limit": 0}


@pytest.fixture(autouse=True)
def quickly() -> Iterator[None]:
    """Dask waits 15 seconds before it calls a worker lost."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0.2s"}):
        yield


class Fleet:
    """A simulator that runs processes, and a session with it; counts what is left behind."""

    def __init__(self, simulator: Simulator, server: SimulatorServer, session: Session) -> None:
        self.simulator = simulator
        self.server = server
        self.session = session
        self.groups: set[int] = set()

    def spec(self, **fields: Any) -> ContainerSpec:
        # `python` must be the one that has Dask; the image would see to that.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return container_spec(self.simulator, name="dask", **{"environment": {"PATH": path}} | fields)

    def cluster(self, n: int, *, spec: ContainerSpec | None = None, **options: Any) -> FluenceCluster:
        given: dict[str, Any] = {"session": self.session, "worker_options": ONE_THREAD} | options
        return FluenceCluster(spec or self.spec(), n, **given)

    def deploys(self) -> int:
        return sum(entry.kind == "deploy" for entry in self.simulator.ledger)


@asynccontextmanager
async def fleet(provisioning: Provisioning = AT_ONCE, **options: Any) -> AsyncIterator[Fleet]:
    """Behind the block nothing is live, and no process is left."""
    simulator = Simulator(api_key=KEY, provisioning=provisioning)
    async with SimulatorServer(simulator, processes=LocalProcesses(**options)) as server:
        async with Session(KEY, base_url=server.url, rate=FAST, poll=BRISK) as session:
            given = Fleet(simulator, server, session)
            yield given
        assert simulator.live() == []
        assert simulator.reserved() == 0
    for group in given.groups:
        assert is_gone(group)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.05)


async def everywhere(client: Client) -> dict[str, int]:
    """The workers' names and process groups."""

    def where(dask_worker: Worker) -> tuple[str, int]:  # in here, so that it is sent whole
        return str(dask_worker.name), os.getpgid(0)

    found: dict[str, tuple[str, int]] = await client.run(where)
    return dict(found.values())


async def test_three_containers_compute_a_sum() -> None:
    async with fleet() as given:
        async with (
            given.cluster(3) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            assert len(given.simulator.live()) == 3
            given.groups |= set((await everywhere(client)).values())
            assert len(given.groups) == 3
            # Each worker holds a part, and one must fetch the others' from where they are.
            parts = client.map(sum, [range(n * 1000, (n + 1) * 1000) for n in range(6)])
            total = client.submit(sum, parts)
            assert await total == sum(range(6000))
            assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert given.simulator.live() == []
        assert given.deploys() == 3
        assert given.simulator.spent() == 3 * given.simulator.catalog.find("container").hourly


async def test_scaling_loses_no_results() -> None:
    async with fleet() as given:
        async with given.cluster(1) as cluster, Client(cluster, asynchronous=True) as client:
            cluster.scale(2)
            await client.wait_for_workers(2)
            workers = await everywhere(client)
            given.groups |= set(workers.values())
            held = [client.submit(pow, 2, n, workers=[name]) for n, name in enumerate(workers)]
            await asyncio.wait([asyncio.ensure_future(future.result()) for future in held])
            cluster.scale(1)
            await until(lambda: len(given.simulator.live()) == 1)
            assert await client.gather(held) == [1, 2]
            cluster.scale(0)
            await until(lambda: not given.simulator.live())
        assert given.deploys() == 2


async def test_it_adapts_to_the_work() -> None:
    async with fleet() as given:
        async with given.cluster(0) as cluster, Client(cluster, asynchronous=True) as client:
            cluster.adapt(minimum=0, maximum=1, interval="50ms", wait_count=3)
            assert await client.submit(pow, 2, 10) == 1024
            assert given.deploys() == 1
            await until(lambda: not given.simulator.live())


async def test_a_worker_that_dies_is_replaced() -> None:
    async with fleet() as given:
        async with given.cluster(2) as cluster, Client(cluster, asynchronous=True) as client:
            before = await everywhere(client)
            os.killpg(next(iter(before.values())), signal.SIGKILL)
            await until(lambda: given.deploys() == 3)
            await client.wait_for_workers(2)
            await until(lambda: len(cluster.scheduler_info["workers"]) == 2)
            after = await everywhere(client)
            assert len(after.keys() & before.keys()) == 1
            assert len(given.simulator.live()) == 2
            given.groups |= {*before.values(), *after.values()}


async def test_it_begins_with_min_ready_workers() -> None:
    async with fleet() as given:
        given.simulator.fail_next_provisioning(1)
        async with given.cluster(2, min_ready=1) as cluster, Client(cluster, asynchronous=True) as client:
            await client.wait_for_workers(2)
            assert len(given.simulator.live()) == 2
            assert len(cluster.containers) == 2
        assert given.deploys() == 3


async def test_too_few_workers_end_all() -> None:
    async with fleet(max_children=1) as given:
        with pytest.raises(LifecycleError, match=r"1 of at least 2(.|\n)*at most 1 containers"):
            async with given.cluster(2):
                pass  # pragma: no cover
        assert given.simulator.live() == []
        assert given.deploys() == 2


async def test_a_worker_that_ends_early_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiofluence.dask.worker._LOOK_EVERY", 0.5)
    async with fleet() as given:
        with pytest.raises(LifecycleError, match="0 of at least 1 workers") as caught:
            async with given.cluster(1, worker_options={"nthreads": "many"}):
                pass  # pragma: no cover
        cause = caught.value.__cause__
        assert isinstance(cause, InstanceFailedError)
        assert "TypeError" in "".join(cause.__notes__)  # the last lines of its log
        assert given.simulator.live() == []


@pytest.mark.parametrize(
    ("then", "timeout", "error"), [("sleep 600", 2, WaitTimeoutError), ("exit 3", 60, InstanceFailedError)]
)
async def test_a_worker_that_never_joins_is_given_up(
    then: str, timeout: float, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiofluence.dask.worker._LOOK_EVERY", 0.2)
    image = tmp_path / "python"
    image.write_text(f"#!/bin/sh\necho this image has no Dask\n{then}\n")
    image.chmod(0o755)
    async with fleet() as given:
        spec = given.spec(environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        with pytest.raises(LifecycleError) as caught:
            async with given.cluster(1, spec=spec, timeout=timeout):
                pass  # pragma: no cover
        cause = caught.value.__cause__
        assert isinstance(cause, error)
        told = (str(cause), *getattr(cause, "__notes__", ()))  # a crash loop has its last lines in the error
        assert "this image has no Dask" in "".join(told)
        assert given.simulator.live() == []


async def test_an_unreachable_worker_is_no_worker(tmp_path: Path) -> None:
    image = tmp_path / "python"  # it listens somewhere else than it was told
    image.write_text(f'#!/bin/sh\nPORT_9000=0\nexec {sys.executable} "$@"\n')
    image.chmod(0o755)
    async with fleet() as given:
        spec = given.spec(environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        with pytest.raises(LifecycleError, match="has joined, but cannot be reached from here"):
            async with given.cluster(1, spec=spec):
                pass  # pragma: no cover
        assert given.simulator.live() == []


def test_repeated_failures_are_retried_rarely() -> None:
    assert [pause_after(failures) for failures in range(5)] == [0, 0, 15, 30, 60]
    assert pause_after(10_000) == 3600


async def test_a_cancelled_start_gives_everything_back() -> None:
    async with fleet(Provisioning(median=1.0, sigma=0)) as given:

        async def start() -> None:
            async with given.cluster(3):
                pass  # pragma: no cover

        starting = asyncio.create_task(start())
        await until(lambda: len(given.simulator.live()) == 3)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert given.deploys() == 3


async def test_a_cancelled_start_leaves_no_scheduler() -> None:
    async with fleet() as given:
        cluster = given.cluster(1)
        starting = asyncio.create_task(cluster.__aenter__())
        while cluster._correct_state_waiting is None:
            await asyncio.sleep(0)
        # Now the cancellation reaches a task of Dask's before it has begun.
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        assert cluster.status is cluster._here.status is Status.closed
    assert given.deploys() == 0


async def test_a_session_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet() as given:
        monkeypatch.setenv("FLUENCE_API_KEY", KEY)
        monkeypatch.setenv("FLUENCE_BASE_URL", given.server.url)
        async with given.cluster(0, session=None) as cluster:
            assert cluster.containers == {}


async def test_what_the_containers_print_is_followed() -> None:
    async with fleet() as given:
        async with given.cluster(1) as cluster, Client(cluster, asynchronous=True) as client:
            await client.run(print, "hello from", "inside", flush=True)
            async with asyncio.timeout(20):
                async for tagged in cluster.tail_logs():
                    if "hello from inside" in str(tagged.line):
                        break
            assert tagged.ref in cluster.containers.values()


async def test_bad_arguments_are_refused_at_once() -> None:
    simulator = Simulator()
    async with Session("k", base_url="https://api.example.com") as session:
        spec = container_spec(simulator)

        def refuse(match: str, spec: ContainerSpec = spec, **options: Any) -> None:
            with pytest.raises((ConfigError, SpecError), match=match):
                _ = FluenceCluster(spec, session=session, **options)

        refuse("contact: required")
        refuse("this machine only", contact="tls://127.0.0.1:8786")
        refuse("this machine only", contact="tls://0.0.0.0:8786")
        refuse("is not 'tls://host:port'", contact="203.0.113.9:8786")
        refuse("is not 'tcp://host:port'", contact="tls://203.0.113.9:8786", security=Security())
        refuse("min_ready.*; worker_options", n=2, min_ready=3, worker_options={"nthreads": {1}})
        refuse("name, port cannot be chosen", worker_options={"port": 1, "name": "a"})
        refuse("timeout", contact="tls://203.0.113.9:8786", timeout=0)
        refuse("startup_command", container_spec(simulator, startup_command="sleep 1"))
        refuse("expose", container_spec(simulator, expose=range(1, 11)))


async def test_a_dead_contact_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiofluence.dask.cluster._ANSWER_TIMEOUT", 0.5)
    async with fleet() as given:
        with pytest.raises(ConfigError, match="no scheduler answers"):
            async with given.cluster(1, contact="tls://127.0.0.1:9", scheduler_options={"port": 0}):
                pass  # pragma: no cover
        assert given.deploys() == 0


async def test_another_scheduler_at_the_contact() -> None:
    async with fleet() as given:
        security = Security.temporary()
        options = {"host": "127.0.0.1", "protocol": "tls", "security": security, "dashboard_address": ":0"}
        async with Scheduler(**options) as other:
            with pytest.raises(ConfigError, match="another scheduler"):
                async with given.cluster(
                    1, contact=other.address, security=security, scheduler_options={"port": 0}
                ):
                    pass  # pragma: no cover
        assert given.deploys() == 0


async def test_a_stranger_is_not_let_in() -> None:
    """The scheduler runs what it is sent, so without the cluster's certificate nobody may talk to it."""
    async with fleet() as given:
        async with given.cluster(0) as cluster:
            for theirs in (Security.temporary(), Security()):
                args = theirs.get_connection_args("worker")
                with pytest.raises((OSError, TypeError)) as caught:
                    await connect(cluster.scheduler_address, timeout=0.5, **args)
                assert re.search("certificate|ssl_context", repr((caught.value, caught.value.__cause__)))


def test_the_free_block_of_the_docs_computes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    _, (_, code) = blocks("docs/dask.md", "python")
    exec(compile(code, "docs/dask.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "285\n"


def test_where_a_contact_makes_sense() -> None:
    far, near = "https://api.example.com", "http://127.0.0.1:8080"
    assert list(contact_problems("tls://203.0.113.9:8786", "tls", far)) == []
    assert list(contact_problems("tls://10.1.2.3:8786", "tls", far)) == []  # there may be a VPN
    assert list(contact_problems("tls://scheduler.example.org:8786", "tls", far)) == []
    assert list(contact_problems("tls://[2001:db8::1]:8786", "tls", far)) == []
    assert list(contact_problems(None, "tls", near)) == []
    assert list(contact_problems("tls://127.0.0.1:8786", "tls", near)) == []
    for unreachable in ("localhost", "[::1]", "169.254.1.1", "0.0.0.0"):
        assert len(list(contact_problems(f"tls://{unreachable}:8786", "tls", far))) == 1
    for nonsense in ("tls://host", "tls://host:port", "host:1", "tls://:1", "tcp://host:1"):
        assert len(list(contact_problems(nonsense, "tls", far))) == 1
    assert WORKER_PORT == 9000  # what the docs say
