"""The tails as a program uses them: left, cancelled, closed, dropped, in trouble, and at the end.

What counts is which lines came, and how often the service was asked. Virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    Container,
    ContainerUpdate,
    GapReason,
    InstanceRef,
    Kind,
    LogGap,
    LogLine,
    LogTail,
    NotFoundError,
    NotSentError,
    Poll,
    RateLimit,
    ServerError,
    Session,
    Until,
)
from aiofluence.simulator import ClusterOptions, Fault, Provisioning, Simulator

from ..harness import ROOMY, VIRTUAL, container_spec, now, session_on, vm_spec

LOGS = "GET /gpu/instances/{id}/logs"
EVENTS = "GET /gpu/instances/{id}/events"
GET = "GET /gpu/instances/{id}"
SILENT = ROOMY.replace(cluster={"log_interval": None}, logs_after_end="kept")
"""Containers print what a test says. The last lines can be read after the end, so that none is missing."""


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(profile=SILENT, provisioning=Provisioning(median=60, sigma=0))


@asynccontextmanager
async def running(simulator: Simulator, **options: Any) -> AsyncIterator[tuple[Session, Container]]:
    async with session_on(simulator, **options) as session:
        spec = container_spec(simulator)
        async with session.running(spec, until=Until.READY) as container:
            yield session, container


async def text(tail: LogTail) -> str:
    item = await anext(tail)
    assert isinstance(item, LogLine), item
    return item.text


async def silence(tail: LogTail, seconds: float) -> None:
    """Nothing comes for that long."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            item = await anext(tail)
            raise AssertionError(f"{item} came")


async def prints(simulator: Simulator, container: Container, *lines: str, every: float = 0.7) -> None:
    for line in lines:
        await asyncio.sleep(every)
        simulator.advance(now())
        simulator.print(container.id, line)


async def test_lines_come_once_and_in_order(
    simulator: Simulator,
) -> None:
    lines = [f"line {n}" for n in range(40)]
    async with running(simulator) as (session, container):
        simulator.print(container.id, "before")

        async def life() -> None:
            await prints(simulator, container, *lines)
            await session.containers.terminate(container.id)

        async with asyncio.TaskGroup() as group:
            group.create_task(life())
            got = [item async for item in session.tail_logs(container)]
    assert [item.text for item in got if isinstance(item, LogLine)] == ["before", *lines]
    assert len(got) == 41


async def test_a_quiet_tail_rarely_polls(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        await silence(tail, 120)
        before = simulator.count()
        await silence(tail, 3600)
        assert simulator.count() - before < 3600 / 8
        simulator.print(container.id, "at last")
        began = now()
        assert await text(tail) == "at last"
        assert now() - began <= 15.1


async def test_a_timeout_around_each_step_loses_nothing(simulator: Simulator) -> None:
    lines = [f"line {n}" for n in range(30)]
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        got: list[str] = []
        timeouts = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(prints(simulator, container, *lines, every=2.1))
            while len(got) < len(lines):
                try:
                    async with asyncio.timeout(0.37):
                        got.append(await text(tail))
                except TimeoutError:
                    timeouts += 1
        assert got == lines
        assert timeouts > 50


async def test_a_cancelled_step_loses_nothing() -> None:
    """Over real time steps: the cancellation lands in every await of a poll, one after the other."""
    for ticks in range(40):
        simulator = Simulator(profile=SILENT, provisioning=Provisioning(median=60, sigma=0))
        async with running(simulator) as (session, container):
            simulator.print(container.id, "one", "two")
            tail = session.tail_logs(container)
            task = asyncio.create_task(text(tail))
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            got: list[str] = []
            with contextlib.suppress(asyncio.CancelledError):
                got.append(await task)
            while len(got) < 2:
                got.append(await text(tail))
            assert got == ["one", "two"]
            await silence(tail, 30)


async def test_a_tail_continues_after_break(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one", "two", "three")
        tail = session.tail_logs(container)
        async for item in tail:
            assert str(item).endswith("one")
            break
        tasks = asyncio.all_tasks()
        assert await text(tail) == "two"
        assert await text(tail) == "three"
        assert asyncio.all_tasks() == tasks


async def test_aclose_from_another_task_ends_it(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one")
        tail = session.tail_logs(container)

        async def read() -> list[str]:
            return [str(item) async for item in tail]

        task = asyncio.create_task(read())
        await asyncio.sleep(30)
        assert not task.done()
        await tail.aclose()
        got = await task
        assert len(got) == 1
        assert task.cancelling() == 0
        await tail.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(tail)


async def test_a_dropped_tail_is_collected_silently(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one")
        tail = session.tail_logs(container)
        await anext(tail)
        tasks = asyncio.all_tasks()
        gone = weakref.ref(tail)
        del tail
        gc.collect()
        assert gone() is None
        assert asyncio.all_tasks() == tasks
        before = simulator.count(LOGS)
        await asyncio.sleep(600)
        assert simulator.count(LOGS) == before


async def test_two_readers_of_one_tail_are_told_so(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        task = asyncio.create_task(text(tail))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(tail)
        simulator.print(container.id, "one")
        assert await task == "one"


FAULTS = [
    Fault.status(500),
    Fault.status(502),
    Fault.status(429, headers={"Retry-After": "7"}),
    Fault.status(503),
    Fault.refuse(),
    Fault.reset(),
    Fault.cut(),
    Fault.body({"no": "list"}),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.effect.value}-{fault.code}")
async def test_errors_slow_it_and_never_end_it(simulator: Simulator, fault: Fault) -> None:
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        simulator.print(container.id, "one")
        assert await text(tail) == "one"
        script = simulator.fail(LOGS, fault, times=None)
        await silence(tail, 600)
        assert tail.last_error is not None
        simulator.print(container.id, "two")
        await silence(tail, 600)
        simulator.clear_faults()
        del script
        assert await text(tail) == "two"
        assert tail.last_error is None


@pytest.mark.parametrize("status", [403, 404, 502])
async def test_no_error_of_the_logs_proves_the_end(simulator: Simulator, status: int) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one")
        tail = session.tail_logs(container)
        assert await text(tail) == "one"
        simulator.fail(LOGS, Fault.status(status), times=2)
        simulator.fail(GET, Fault.status(404), times=1)
        simulator.print(container.id, "two")
        assert await text(tail) == "two"
        simulator.clear_faults()
        simulator.fail(LOGS, Fault.status(404), times=None)
        await session.containers.terminate(container.id)
        assert await anext(tail) == LogGap(GapReason.POD_GONE, 0, None)
        with pytest.raises(StopAsyncIteration):
            await anext(tail)
        simulator.clear_faults()


async def test_an_hour_of_failing_polls_is_logged(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aiofluence")
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        await silence(tail, 30)
        simulator.fail(LOGS, Fault.status(500), times=None)
        await silence(tail, 3600)
        warnings = [record for record in caplog.records if "all polls have failed" in record.msg]
        assert {record.levelname for record in warnings} == {"WARNING"}
        assert container.name in warnings[0].getMessage()
        assert "HTTP 500" in warnings[0].getMessage()
        failing = [float(str(record.args[1])) for record in warnings if isinstance(record.args, tuple)]
        assert 60 <= failing[0] < 120
        assert 3 <= len(failing) <= 5
        assert all(later > 3 * first for first, later in pairwise(failing))
        assert isinstance(tail.last_error, ServerError)
        assert not [record for record in caplog.records if "succeed again" in record.msg]
        simulator.clear_faults()
        simulator.print(container.id, "one")
        assert await text(tail) == "one"
        again = [record for record in caplog.records if "succeed again" in record.msg]
        assert [record.levelname for record in again] == ["INFO"]
        simulator.fail(LOGS, Fault.status(500), times=1)
        await silence(tail, 200)  # one failed poll is worth no word
        assert len([record for record in caplog.records if "tail of" in record.msg]) == len(failing) + 1


async def test_an_unknown_container_is_an_error(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        tail = session.tail_logs(InstanceRef(Kind.CONTAINER, "nobody", "nobody"))
        began = now()
        with pytest.raises(NotFoundError):
            await anext(tail)
        assert 60 <= now() - began < 120


async def test_one_that_does_not_show_yet_is_waited_for(simulator: Simulator) -> None:
    simulator.list_lag = 40
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(container_spec(simulator))
        tail = session.tail_logs(ref)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(text(tail))
            await session.wait(ref, until=Until.READY)
            simulator.print(ref.id, "hello")
            assert await waiting == "hello"
        await session.terminate_and_wait(ref)


async def test_a_failed_container_ends_with_its_lines() -> None:
    simulator = Simulator(3, provisioning=Provisioning(median=60, sigma=0, failure_rate=1))
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(container_spec(simulator))
        logs = [item async for item in session.tail_logs(ref)]
        events = [event async for event in session.tail_events(ref)]
        assert await session.containers.logs(ref.id) == []
        assert logs == [LogGap(GapReason.POD_GONE, 0, None)]  # an empty log of what is over may be gone
        assert [str(e) for e in events] == [str(e) for e in await session.containers.events(ref.id)]
        assert events


async def test_a_tail_of_an_ended_container_ends_soon(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one", "two")
    async with session_on(simulator) as session:
        began = now()
        assert len([item async for item in session.tail_logs(container)]) == 2
        assert now() - began < 10


async def test_the_last_lines_come_after_the_end(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        await silence(tail, 100)
        simulator.print(container.id, *(f"last words {n}" for n in range(300)))
        await session.containers.terminate(container.id)
        assert len([item async for item in tail]) == 300


async def test_unavailable_last_lines_are_marked(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "one")
        tail = session.tail_logs(container)
        assert await text(tail) == "one"
        simulator.fail(LOGS, Fault.status(500), times=None)
        simulator.print(container.id, "two")
        await session.containers.terminate(container.id)
        assert [item async for item in tail] == [LogGap(GapReason.POD_GONE, 0, None)]
        simulator.clear_faults()


async def test_a_bad_key_is_raised(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container)
        simulator.fail(LOGS, Fault.status(403), times=3)
        with pytest.raises(AuthError):
            await anext(tail)
        simulator.print(container.id, "one")
        assert await text(tail) == "one"  # and it can be gone on with


async def test_a_closed_session_is_an_error_and_no_hang(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        tail, many = session.tail_logs(container), session.tail_all([container])
    with pytest.raises(NotSentError):
        await anext(tail)
    with pytest.raises(NotSentError):
        await anext(many)


async def test_arguments_that_make_no_sense(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        machine = InstanceRef(Kind.VM, "m-1", vm_spec(simulator).name)
        for make in (session.tail_logs, session.tail_events, lambda ref: session.tail_all([ref])):
            with pytest.raises(ConfigError, match="only containers"):
                make(machine)
        container = InstanceRef(Kind.CONTAINER, "c-1", "c")
        with pytest.raises(ConfigError, match="at least 1"):
            session.tail_logs(container, last=0)
        with pytest.raises(ConfigError, match="at least 1"):
            session.tail_all([container], last=-1)


async def test_it_follows_through_an_update(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        simulator.print(container.id, "old")
        tail = session.tail_logs(container)
        assert await text(tail) == "old"
        update = ContainerUpdate.from_container(container, startup_command="python again.py")
        await session.update_and_wait(container, update)
        await asyncio.sleep(10)
        simulator.print(container.id, "new")
        got = [await anext(tail)]
        while not isinstance(got[-1], LogLine):
            got.append(await anext(tail))
        assert got[-1].text == "new"


@pytest.mark.parametrize("counts", ["pod", "answer", "nothing"])
@pytest.mark.parametrize("order", ["pod", "time"])
async def test_each_line_of_two_pods_comes_once(counts: Any, order: Any) -> None:
    """The tail finds out the scope of `last` and the order of pods."""
    cluster = ClusterOptions(log_interval=2.0, pod_linger=300, last_applies=counts, pod_order=order)
    simulator = Simulator(cluster=cluster, provisioning=Provisioning(median=60, sigma=0))
    came: dict[str | None, list[str]] = {}
    async with running(simulator) as (session, container):
        tail = session.tail_logs(container, last=10_000)
        await asyncio.sleep(30)
        update = ContainerUpdate.from_container(container, startup_command="python again.py")
        await session.update_and_wait(container, update)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(200):
                async for item in tail:
                    assert isinstance(item, LogLine), item
                    came.setdefault(item.pod, []).append(item.text)
        truth: dict[str | None, list[str]] = {}
        for line in await session.containers.logs(container.id):
            truth.setdefault(line.pod, []).append(line.text)
    assert len(truth) == len(came) == 2
    for pod, texts in came.items():
        assert len(texts) > 60
        assert texts == truth[pod][: len(texts)]
        # It is as far as the last poll; of a pod that the other hides, as far as the last look for it.
        assert len(truth[pod]) - len(texts) < 30


async def test_the_pace_is_the_session_s(simulator: Simulator) -> None:
    async with running(simulator, poll=Poll(interval=0.1)) as (session, container):
        tail = session.tail_logs(container)
        await silence(tail, 2)
        simulator.print(container.id, "one")
        began = now()
        assert await text(tail) == "one"
        assert now() - began < 0.16


# --- events -------------------------------------------------------------------------------------------------


async def test_events_come_once_until_the_end(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        ref = await session.containers.deploy(container_spec(simulator))
        tail = session.tail_events(ref)
        got = []
        async with asyncio.TaskGroup() as group:

            async def read() -> None:
                got.extend([event async for event in tail])

            group.create_task(read())
            container = await session.wait(ref, until=Until.READY)
            await asyncio.sleep(4000)  # the first have aged out by now
            assert isinstance(container, Container)
            await session.update_and_wait(
                container, ContainerUpdate.from_container(container, startup_command="python again.py")
            )
            await asyncio.sleep(60)
            await session.terminate_and_wait(ref)
        reasons = [event.reason for event in got]
        assert len({event.raw for event in got}) == len(got)
        for reason in ("Scheduled", "Pulled", "Started", "Killing"):
            assert reasons.count(reason) == 2, reasons


# --- many ---------------------------------------------------------------------------------------------------


async def test_one_iterator_follows_many_in_order(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        specs = container_spec(simulator, "fleet-{i}").many(12)
        report = await session.deploy_all_and_wait(specs, until=Until.READY)
        containers = [one.instance for one in report.ready if isinstance(one.instance, Container)]
        assert len(containers) == 12

        async def life() -> None:
            for number in range(60):
                await asyncio.sleep(0.5)
                simulator.advance(now())
                for container in containers[: 1 + number % 12]:
                    simulator.print(container.id, f"{container.name} {number}")
            for container in containers:
                await session.containers.terminate(container.id)

        got: dict[str, list[str]] = {container.name: [] for container in containers}
        async with asyncio.TaskGroup() as group:
            group.create_task(life())
            async for tagged in session.tail_all(containers):
                assert isinstance(tagged.line, LogLine)
                got[tagged.ref.name].append(tagged.line.text)
        for place, container in enumerate(containers):
            assert got[container.name] == [f"{container.name} {n}" for n in range(60) if n % 12 >= place]


async def test_a_chatty_one_does_not_starve_the_others(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        report = await session.deploy_all_and_wait(
            container_spec(simulator, "fleet-{i}").many(20), until=Until.READY
        )
        containers = [one.instance for one in report.ready if isinstance(one.instance, Container)]
        loud, *quiet = containers
        many = session.tail_all(containers)
        lag: list[float] = []

        async def life() -> None:
            for number in range(300):
                await asyncio.sleep(0.1)
                simulator.advance(now())
                simulator.print(loud.id, *(f"noise {number} {n}" for n in range(100)))
                if number % 10 == 0:
                    simulator.print(quiet[(number // 10) % 19].id, f"{now()}")
            for container in containers:
                await session.containers.terminate(container.id)

        noise = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(life())
            async for tagged in many:
                assert isinstance(tagged.line, LogLine)
                if tagged.ref.id == loud.id:
                    noise += 1
                else:
                    lag.append(now() - float(tagged.line.text))
        assert noise == 300 * 100
        assert len(lag) == 30
        assert max(lag) <= 15.5


@pytest.mark.parametrize("merged", [False, True], ids=["a task each", "one iterator"])
async def test_of_hundreds_none_starves(simulator: Simulator, merged: bool) -> None:
    """Poll 200 tails with 4 requests a second: each about every 50 seconds, and no line waits much longer."""
    simulator.set_balance(100_000)
    simulator.provisioning = Provisioning(median=1, sigma=0, start_delay=0, network_delay=0, domain_delay=0)
    spec = container_spec(simulator, "fleet-{i}")
    async with session_on(simulator) as session:
        report = await session.deploy_all_and_wait(spec.many(200))
        containers = [one.instance for one in report.ready if isinstance(one.instance, Container)]
    async with session_on(simulator, rate=RateLimit(4, 8), close_timeout=0) as session:
        await asyncio.sleep(10)
        lag: dict[str, float] = {}

        async def read(container: Container) -> None:
            lag[container.name] = now() - float(await text(session.tail_logs(container)))

        async def read_all() -> None:
            async for tagged in session.tail_all(containers):
                assert isinstance(tagged.line, LogLine)
                lag[tagged.ref.name] = now() - float(tagged.line.text)
                if len(lag) == 200:
                    break

        before = simulator.count()
        began = now()
        async with asyncio.TaskGroup() as group:
            if merged:
                group.create_task(read_all())
            else:
                for container in containers:
                    group.create_task(read(container))
            await asyncio.sleep(200)  # all of them are quiet, and polled less and less
            simulator.advance(now())
            for container in containers:
                simulator.print(container.id, f"{now()}")
        assert len(lag) == 200
        assert max(lag.values()) < 110
        assert simulator.count() - before <= 4 * (now() - began) + 8


async def test_aclose_of_many_from_another_task(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        many = session.tail_all([container])

        async def read() -> list[object]:
            return [tagged async for tagged in many]

        task = asyncio.create_task(read())
        await asyncio.sleep(30)
        await many.aclose()
        assert await task == []
        assert task.cancelling() == 0


async def test_an_unknown_container_stops_no_other(simulator: Simulator) -> None:
    async with running(simulator) as (session, container):
        many = session.tail_all([InstanceRef(Kind.CONTAINER, "nobody", "nobody"), container])
        with pytest.raises(NotFoundError):
            await anext(many)
        simulator.print(container.id, "one")
        tagged = await anext(many)
        assert tagged.ref.id == container.id


async def test_nobody_to_follow_is_an_empty_iteration(simulator: Simulator) -> None:
    async with session_on(simulator) as session:
        assert [tagged async for tagged in session.tail_all([])] == []
