"""The poller that all waits of a kind share: its cost, its lag, and its behaviour in trouble.

Virtual time, and the simulator counts the requests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest

from aiofluence import (
    AuthError,
    Container,
    ContainerUpdate,
    DecodeError,
    InstanceEndedError,
    InstanceFailedError,
    InstanceRef,
    Kind,
    NotSentError,
    Poll,
    RateLimit,
    Session,
    Status,
    Until,
    WaitTimeoutError,
)
from aiofluence.background import in_turns
from aiofluence.http.messages import Reply
from aiofluence.resources.endpoints import Endpoints
from aiofluence.simulator import KIND, Fault, Profile, Provisioning, Simulator, SimulatorWire

from ..harness import (
    FAST,
    OTHER_IMAGE,
    ROOMY,
    VIRTUAL,
    container_spec,
    now,
    session_on,
    transport_on,
    vm_spec,
)

LIST = "GET /gpu/instances/"
GET = "GET /gpu/instances/{id}"
SLOW = Provisioning(median=150, sigma=0.0)
LATER = 1e7
QUIET = Provisioning(start_delay=LATER, network_delay=LATER)
"""Nothing changes an instance after ACTIVE, so that `updated_at` says when that was."""


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def refs_of(fluence: Session, simulator: Simulator, number: int) -> list[InstanceRef]:
    specs = [container_spec(simulator, f"exp-{n}") for n in range(number)]
    return list(await asyncio.gather(*map(fluence.containers.deploy, specs)))


async def launch(fluence: Session, simulator: Simulator, number: int, pause: float = 0.0) -> list[float]:
    """Launch that many, one every `pause` seconds; how long each was ready before it was handed over."""
    lags = []

    async def one(name: str) -> None:
        container = await fluence.deploy_and_wait(container_spec(simulator, name), timeout=None)
        lags.append(now() - simulator.get_instance(container.id).updated_at)

    async with asyncio.TaskGroup() as group:
        for n in range(number):
            group.create_task(one(f"exp-{n}"))
            if pause:
                await asyncio.sleep(pause)
    return sorted(lags)


# What it costs


@pytest.mark.parametrize(
    ("profile", "number", "requests", "lag"),
    [(ROOMY, 200, 1.4, 1.5), (KIND, 200, 1.4, 1.5), (ROOMY, 1000, 1.15, 1.0)],
)
async def test_the_cost_of_a_launch(profile: Profile, number: int, requests: float, lag: float) -> None:
    simulator = Simulator(balance=10**6, provisioning=QUIET, profile=profile)
    unlimited = RateLimit(per_second=10**6, burst=10**6)
    async with session_on(simulator, rate=unlimited, max_in_flight=10**4) as fluence:
        lags = await launch(fluence, simulator, number)
    assert len(lags) == number
    assert (simulator.count() - number) / number <= requests
    assert sum(lags) / number <= lag


async def test_one_alone_is_asked_for_by_its_id() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.add_ended(100)
    async with session_on(simulator) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator))
    assert simulator.count(LIST) == 0
    assert simulator.count(GET) <= 13


@pytest.mark.parametrize(("ended", "by_list"), [(0, True), (3000, False)])
async def test_a_long_history_makes_lists_dear(ended: int, by_list: bool) -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.add_ended(ended)
    async with session_on(simulator) as fluence:
        await launch(fluence, simulator, 10)
    if by_list:
        assert simulator.count(GET) == 10
    else:
        assert simulator.count(LIST) == 1  # it takes one to know
        assert simulator.count(GET) <= 10 * 13


async def test_waits_for_one_instance_share_polls() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        (ref,) = await refs_of(fluence, simulator, 1)
        got = await asyncio.gather(*(fluence.wait(ref) for _ in range(100)))
    assert {container.id for container in got} == {ref.id}
    assert simulator.count() - 1 <= 14


async def test_waits_that_begin_together_look_together() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 50)
        await asyncio.sleep(300)
        await asyncio.gather(*map(fluence.wait, refs))
        assert (simulator.count(LIST), simulator.count(GET)) == (1, 50)
        await asyncio.gather(*(fluence.terminate_and_wait(ref) for ref in refs))
    assert simulator.count(LIST) <= 5


async def test_waits_just_after_a_list_share_the_next() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 4)
        await asyncio.sleep(300)
        began = now()
        for pair in (refs[:2], refs[2:]):
            await asyncio.gather(*(fluence.wait(ref, timeout=60) for ref in pair))
        assert now() - began < 5
    assert simulator.count(LIST) == 2


async def test_ready_is_polled_with_growing_gaps() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        active = await fluence.deploy_and_wait(container_spec(simulator))
        before = simulator.count(GET)
        began = now()
        await fluence.wait(active, until=Until.READY)
        assert now() - began <= 30  # it takes up to 21 s
        assert simulator.count(GET) - before <= 10


async def test_a_patient_wait_beside_a_brisk_one() -> None:
    """Clean-up expects the end within seconds; a wait for the same instance changes nothing about that."""
    simulator = Simulator(provisioning=attrs.evolve(SLOW, network_delay=LATER))
    async with session_on(simulator) as fluence:
        active = await fluence.deploy_and_wait(container_spec(simulator))
        patient = asyncio.ensure_future(fluence.wait(active, until=Until.READY, timeout=None))
        await asyncio.sleep(600)
        simulator.requests.clear()
        began = now()
        await fluence.terminate_and_wait(active)
        with pytest.raises(InstanceEndedError):
            await patient
        assert now() - began < 5
        assert simulator.count() <= 6
        await asyncio.sleep(600)
        assert simulator.count() <= 6


@pytest.mark.parametrize("patient_first", [True, False])
async def test_a_brisk_wait_beside_a_patient_one(patient_first: bool) -> None:
    """An update is looked for at once and in the detail; a wait for ACTIVE, begun together, needs neither."""
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        update = ContainerUpdate(name="exp-1", image=OTHER_IMAGE)
        simulator.requests.clear()
        began = now()
        calls: list[Coroutine[Any, Any, Any]] = [fluence.wait(ref), fluence.update_and_wait(ref, update)]
        first, second = calls if patient_first else calls[::-1]
        tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
        done, _ = await asyncio.wait(tasks, timeout=1)
        assert [task.result().status for task in done] == [Status.ACTIVE]
        updated = [await task for task in tasks if task not in done]
        assert [container.container_info.image for container in updated] == [OTHER_IMAGE]
        assert 20 <= now() - began <= 60
        assert simulator.count(GET) <= 14


async def test_a_second_launch_begins_without_a_look() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        await launch(fluence, simulator, 5)
        await asyncio.sleep(1000)
        before = simulator.count(LIST)
        launching = asyncio.ensure_future(launch(fluence, simulator, 5))
        await asyncio.sleep(50)
        assert simulator.count(LIST) == before
        await launching


async def test_what_goes_first_when_the_rate_is_short() -> None:
    lags = {}
    for prefer in ("details", "deploys"):
        simulator = Simulator(
            balance=10**6, provisioning=attrs.evolve(QUIET, median=30, sigma=0.1), profile=ROOMY
        )
        poll = Poll(interval=2, prefer=prefer)
        slow = RateLimit(per_second=2, burst=1)
        async with session_on(simulator, poll=poll, rate=slow) as fluence:
            lags[prefer] = sum(await launch(fluence, simulator, 200)) / 200
    assert lags["details"] < 10
    assert lags["deploys"] > 2 * lags["details"]  # they come when all is deployed


# When it looks: two mistakes that a schedule like this invites


async def test_who_joins_late_is_counted_in() -> None:
    """A look planned when one waited is too late when 200 wait."""
    simulator = Simulator(balance=10**6, provisioning=attrs.evolve(QUIET, sigma=0.0), profile=ROOMY)
    async with session_on(simulator) as fluence:
        first = asyncio.ensure_future(fluence.deploy_and_wait(container_spec(simulator, "first")))
        await asyncio.sleep(50)
        lags = await launch(fluence, simulator, 200)
        await first
    assert lags[190] < 3


async def test_a_stream_of_waits_delays_no_list() -> None:
    """A gap counted from the moment of planning would begin anew with each of them."""
    simulator = Simulator(balance=10**6, provisioning=QUIET, profile=ROOMY)
    async with session_on(simulator) as fluence:
        lags = await launch(fluence, simulator, 300, pause=0.4)
    assert lags[285] < 8
    assert sum(lags) / 300 < 3


@pytest.mark.parametrize("median", [20.0, 600.0])
async def test_a_wrong_guess_is_mended(median: float) -> None:
    simulator = Simulator(balance=10**6, provisioning=attrs.evolve(QUIET, median=median), profile=ROOMY)
    async with session_on(simulator) as fluence:
        await launch(fluence, simulator, 100)
        before = simulator.count(LIST)
        lags = await launch(fluence, simulator, 100)  # by now it knows
    assert simulator.count(LIST) - before < 180
    assert sum(lags) / 100 < 3


# In trouble


async def test_a_refused_key_fails_each_wait() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 50)
        waits = [asyncio.ensure_future(fluence.wait(ref)) for ref in refs]
        await asyncio.sleep(100)
        simulator.fail(LIST, Fault.status(401, {"detail": "revoked"}), times=None)
        errors = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(error) for error in errors] == [AuthError] * 50
    assert len(set(map(id, errors))) == 50
    assert all("revoked" in str(error) and error.status == 401 for error in errors)  # type: ignore[union-attr]


async def test_each_wait_keeps_its_own_deadline() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 40)
        began = now()

        async def wait(ref: InstanceRef, timeout: float) -> float:
            with pytest.raises(WaitTimeoutError) as caught:
                await fluence.wait(ref, timeout=timeout)
            assert caught.value.timeline[-1].status is Status.INITIALIZED
            return now() - began - timeout

        late = await asyncio.gather(*(wait(ref, 20 + n) for n, ref in enumerate(refs)))
    assert all(0 <= seconds < 0.1 for seconds in late)


async def test_a_common_deadline_costs_one_last_look() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 40)
        simulator.requests.clear()
        errors = await asyncio.gather(
            *(fluence.wait(ref, timeout=10) for ref in refs), return_exceptions=True
        )
        assert {type(error) for error in errors} == {WaitTimeoutError}
        assert all(error.last_seen.id == ref.id for error, ref in zip(errors, refs, strict=True))  # type: ignore[union-attr]
    assert simulator.count() == 2  # when they began, and at the deadline
    assert simulator.requests[-1].at - simulator.requests[0].at == pytest.approx(10, abs=0.1)


async def test_a_timeout_shows_the_last_poll() -> None:
    class Numbered(SimulatorWire):
        """Each LIST names the instances by its number."""

        lists = 0

        async def send(self, request: Any) -> Reply:
            reply = await super().send(request)
            if (request.method, request.path) != ("GET", "/gpu/instances/"):
                return reply
            self.lists += 1
            rows = [row | {"name": f"list-{self.lists}"} for row in json.loads(reply.body)]
            return Reply(reply.status, reply.headers, json.dumps(rows).encode())

    simulator = Simulator(balance=10**6, provisioning=SLOW)
    wire = Numbered(simulator)
    async with Session(simulator.api_key, wire=wire, rate=FAST) as fluence:
        refs = await refs_of(fluence, simulator, 3)
        waits = (fluence.wait(ref, timeout=30) for ref in refs)
        errors = await asyncio.gather(*waits, return_exceptions=True)
    assert wire.lists > 1
    assert [error.last_seen.name for error in errors] == [f"list-{wire.lists}"] * 3  # type: ignore[union-attr]


async def test_ready_in_the_last_second_is_ready() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 5)
        got = await asyncio.gather(*(fluence.wait(ref, timeout=150.2) for ref in refs))
    assert {instance.status for instance in got} == {Status.ACTIVE}


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.reset(), Fault.body(b"[{"), Fault.hang()])
async def test_lists_that_fail_fail_no_wait(fault: Fault) -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 5)
        simulator.fail(LIST, fault, times=8)
        got = await asyncio.gather(*map(fluence.wait, refs))
    assert {instance.status for instance in got} == {Status.ACTIVE}


async def test_the_last_error_is_in_the_timeout() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 5)
        simulator.fail(LIST, Fault.status(500), times=None)
        began = now()
        errors = await asyncio.gather(
            *(fluence.wait(ref, timeout=40) for ref in refs), return_exceptions=True
        )
        assert now() - began < 42.5
    assert all("the last poll failed" in str(error) for error in errors)
    assert all(isinstance(error, WaitTimeoutError) and error.last_error for error in errors)


async def test_unreadable_lists_are_replaced_by_gets() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    simulator.fail(LIST, Fault.body(b"<html>"), times=None)
    async with session_on(simulator) as fluence:
        lags = await launch(fluence, simulator, 10)
    assert len(lags) == 10
    assert simulator.count(LIST) == 2
    assert simulator.count(GET) <= 10 * 14


async def test_an_unlisted_id_is_polled_by_get() -> None:
    class Partial(SimulatorWire):
        """The service lists nothing, though it knows everything."""

        async def send(self, request: Any) -> Reply:
            reply = await super().send(request)
            listing = request.method == "GET" and request.path == "/gpu/instances/"
            return Reply(reply.status, reply.headers, b"[]") if listing else reply

    simulator = Simulator(balance=10**6, provisioning=attrs.evolve(QUIET, median=150, sigma=0.0))
    async with Session(simulator.api_key, wire=Partial(simulator)) as fluence:
        lags = await launch(fluence, simulator, 3)
    assert len(lags) == len(simulator.live()) == 3
    assert lags[-1] < 10
    assert simulator.count(LIST) <= 20
    assert simulator.count(GET) <= 3 * 15


async def test_a_failed_one_among_many() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        specs = [container_spec(simulator, f"exp-{n}") for n in range(20)]
        got = await asyncio.gather(*map(fluence.deploy_and_wait, specs), return_exceptions=True)
    failed = [error for error in got if isinstance(error, InstanceFailedError)]
    assert len(failed) == 1
    assert failed[0].events
    assert sum(isinstance(container, Container) for container in got) == 19


async def test_a_stale_answer_changes_nothing() -> None:
    """A list that was asked for early and comes late says INITIALIZED of what a GET has shown ACTIVE."""

    class Slow(SimulatorWire):
        held = 0

        async def send(self, request: Any) -> Reply:
            reply = await super().send(request)
            if request.path == "/gpu/instances/" and request.method == "GET" and self.held:
                await asyncio.sleep(self.held)
            return reply

    simulator = Simulator(balance=10**6, provisioning=SLOW)
    wire = Slow(simulator)
    async with Session(simulator.api_key, wire=wire) as fluence:
        refs = await refs_of(fluence, simulator, 3)
        others = [asyncio.ensure_future(fluence.wait(ref)) for ref in refs[1:]]
        await asyncio.sleep(140)
        wire.held = 30
        await asyncio.sleep(12)  # a list is on its way, from before they were ACTIVE
        active = await fluence.wait(refs[0])
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.wait(active, until=Until.READY, timeout=5)
        assert [sighting.status for sighting in caught.value.timeline] == [Status.ACTIVE]
        wire.held = 0
        await asyncio.gather(*others)


async def test_a_wait_ends_with_the_session() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await refs_of(fluence, simulator, 3)
        waits = [asyncio.ensure_future(fluence.wait(ref)) for ref in refs]
        await asyncio.sleep(20)
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(error) for error in errors} == {NotSentError}
    assert all(error.permanent for error in errors)  # type: ignore[union-attr]
    began = now()
    with pytest.raises(NotSentError):
        await fluence.wait(refs[0])
    assert now() == began


async def test_nothing_runs_when_nobody_waits() -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        tasks = len(asyncio.all_tasks())
        refs = await refs_of(fluence, simulator, 3)
        waits = [asyncio.ensure_future(fluence.wait(ref)) for ref in refs]
        await asyncio.sleep(20)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        before = simulator.count()
        await asyncio.sleep(1000)
        assert simulator.count() == before
        assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("body", [None, "404 page not found"])
async def test_a_404_proves_nothing(body: str | None) -> None:
    """A LIST shows the instance all along: it is neither over nor forgotten."""
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        (ref,) = await refs_of(fluence, simulator, 1)
        simulator.fail(GET, Fault.status(404, body), times=None)
        with pytest.raises(WaitTimeoutError, match="ACTIVE"):
            await fluence.wait(ref, timeout=900)
        simulator.clear_faults()
        assert (await fluence.wait(ref)).status is Status.ACTIVE
    assert [instance.id for instance in simulator.live()] == [ref.id]


@pytest.mark.parametrize("operation", [GET, LIST])
async def test_a_foreign_error_ends_the_waits(operation: str) -> None:
    class Broken(SimulatorWire):
        broken = False

        async def send(self, request: Any) -> Reply:
            if self.broken:
                raise RuntimeError("a bug of this wire")
            return await super().send(request)

    simulator = Simulator(balance=10**6, provisioning=SLOW)
    wire = Broken(simulator)
    async with Session(simulator.api_key, wire=wire) as fluence:
        refs = await refs_of(fluence, simulator, 1 if operation == GET else 5)
        waits = [asyncio.ensure_future(fluence.wait(ref, timeout=None)) for ref in refs]
        await asyncio.sleep(100)
        assert simulator.count(operation)
        wire.broken = True
        done, pending = await asyncio.wait(waits, timeout=300)
        wire.broken = False
        assert not pending
    assert [str(wait.exception()) for wait in done] == ["a bug of this wire"] * len(refs)
    assert {type(wait.exception()) for wait in done} == {RuntimeError}


class Dated(SimulatorWire):
    """The service writes `created_at` in another way in its lists."""

    def __init__(self, simulator: Simulator, written: Callable[[str], Any]) -> None:
        super().__init__(simulator)
        self._written = written

    async def send(self, request: Any) -> Reply:
        reply = await super().send(request)
        if (request.method, request.path) != ("GET", "/gpu/instances/"):
            return reply
        rows = json.loads(reply.body)
        for row in rows:
            row["created_at"] = self._written(row["created_at"])
        return Reply(reply.status, reply.headers, json.dumps(rows).encode())


async def wait_later(written: Callable[[str], Any]) -> tuple[float, list[float]]:
    """Wait for five that another program deployed 100 s ago: the longest lag, and the times of the LISTs."""
    simulator = Simulator(balance=10**6, provisioning=attrs.evolve(QUIET, median=150, sigma=0.0))
    began = now()
    async with session_on(simulator) as other:
        refs = await refs_of(other, simulator, 5)
    await asyncio.sleep(100)
    simulator.requests.clear()
    async with Session(simulator.api_key, wire=Dated(simulator, written), rate=FAST) as fluence:
        got = await asyncio.gather(*map(fluence.wait, refs))
        lag = max(now() - began - simulator.get_instance(each.id).updated_at for each in got)
    return lag, [round(request.at, 3) for request in simulator.requests if request.operation == LIST]


@pytest.mark.parametrize("zone", ["", "+00:00"])
async def test_a_creation_date_without_a_zone_is_utc(zone: str) -> None:
    usual = await wait_later(lambda date: date)
    lag, lists = await wait_later(lambda date: date.replace("Z", zone))
    assert lag == pytest.approx(usual[0], abs=1)  # instances are grouped by the second of their birth
    assert lists == pytest.approx(usual[1], abs=1)
    assert len((await wait_later(lambda date: date.replace("Z", "-09:00")))[1]) != len(usual[1])


@pytest.mark.parametrize("written", [None, 5, "", "yesterday", "2026-13-45T99:00:00Z"])
async def test_an_odd_creation_date_delays_no_wait(written: Any) -> None:
    lag, lists = await wait_later(lambda date: written)
    assert lag <= 12  # the interval, and a detail
    assert len(lists) <= 12


async def test_a_long_list_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    assert [row async for row in in_turns(range(350))] == list(range(350))
    task.cancel()
    assert turns >= 3


# The raw rows


@pytest.mark.parametrize("kind", ["containers", "vms"])
async def test_the_status_of_an_odd_detail_is_read(kind: str) -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        resource: Any = getattr(fluence, kind)
        make: Any = {"containers": container_spec, "vms": vm_spec}[kind]
        refs = [await resource.deploy(make(simulator, name)) for name in ("a", "b")]
        raw = Endpoints(transport_on(simulator), resource.kind)
        answer = await raw.get(refs[0].id)
        assert raw.detail_of(answer) == await resource.get(refs[0].id)
        del answer.value["billing"]
        with pytest.raises(DecodeError):
            raw.detail_of(answer)
        assert raw.status_of(answer) is Status.INITIALIZED
        odd: tuple[Any, ...] = (None, [], {}, {"status": 5, "instance_status": None})
        for answer.value in odd:
            assert raw.status_of(answer) is None


async def test_raw_rows_name_id_and_status_of_each_kind() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        for resource, instance in ((fluence.containers, container), (fluence.vms, machine)):
            raw = Endpoints(transport_on(simulator), instance.kind)
            rows = await raw.rows()
            ((id, status, row),) = rows
            assert (id, status) == (instance.id, "ACTIVE")
            (summary,) = await resource.list()
            assert raw.summary_of(row) == summary
            assert list(rows.raw()) == [row]
            assert rows.size > 100
    assert machine.kind is Kind.VM


async def test_a_long_interval_is_kept_to() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator, poll=Poll(interval=60, cost=1000, expected=150)) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator))
    assert simulator.count(GET) in (2, 3)
