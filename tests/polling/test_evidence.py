"""Absence of evidence proves nothing: replies that say little about an instance never end or forget it.

What counts is what is live and billed afterwards, and that errors name what could not be decided.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import anyio
import attrs
import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    ContainerUpdate,
    CustodyError,
    DecodeError,
    FluenceError,
    InstanceEndedError,
    InstanceRef,
    Kind,
    NoReplyError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    Reply,
    ReplyError,
    Request,
    Retry,
    ServerError,
    Session,
    SpecError,
    Status,
    UncertainDeployError,
    WaitTimeoutError,
)
from aiofluence.http.retry import is_certain
from aiofluence.polling.evidence import Evidence, KeyDoubt
from aiofluence.resources.listing import is_paged
from aiofluence.simulator import DEFAULT_API_KEY, LIKELY, Fault, Provisioning, Simulator, SimulatorWire

from ..harness import FAST, OTHER_IMAGE, ROOMY, VIRTUAL, container_spec, now, session_on, vm_spec

POST = "POST /gpu/instances/"
LIST = "GET /gpu/instances/"
GET = "GET /gpu/instances/{id}"
DELETE = "DELETE /gpu/instances/{id}"
SLOW = Provisioning(median=150, sigma=0.0)

Change = Callable[[Request, Reply], Reply]


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@attrs.define
class Changed:
    """The simulator behind something that changes replies."""

    simulator: Simulator
    change: Change
    inner: SimulatorWire = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inner = SimulatorWire(self.simulator)

    async def send(self, request: Request) -> Reply:
        return self.change(request, await self.inner.send(request))

    async def aclose(self) -> None:
        await self.inner.aclose()


def session_behind(simulator: Simulator, change: Change, **options: Any) -> Session:
    return Session(DEFAULT_API_KEY, wire=Changed(simulator, change), rate=FAST, **options)


def is_list(request: Request) -> bool:
    return (request.method, request.path) == ("GET", "/gpu/instances/")


def is_detail(request: Request) -> bool:
    return request.method == "GET" and request.path.count("/") == 3 and not is_list(request)


async def abandon(fluence: Session, simulator: Simulator, number: int = 1) -> None:
    """Deploy instances whose callers are cancelled, so that custody has them."""
    with anyio.move_on_after(5):
        async with asyncio.TaskGroup() as group:
            for n in range(number):
                group.create_task(fluence.deploy_and_wait(container_spec(simulator, f"exp-{n}")))


# Which errors are certain


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (NotSentError("refused"), True),
        (NotSentError("bad certificate", permanent=True), True),
        (ConfigError("no"), True),
        (SpecError(["no"]), True),
        (RefusedError("no", status=400), True),
        (RefusedError("no", status=200), True),
        (AuthError("no", status=403), True),
        (NotFoundError("no", status=404), True),
        (ReplyError("no", status=405), True),
        (ReplyError("moved", status=307), False),
        (ReplyError("timeout", status=408), False),
        (ReplyError("early", status=425), False),
        (RateLimitedError("slow", status=429), False),
        *((ServerError("oops", status=status), False) for status in (500, 502, 503, 504, 520, 524)),
        (NoReplyError("reset"), False),
        (DecodeError("a page", status=404), False),
        (DecodeError("a portal"), False),
        (ZeroDivisionError(), False),
    ],
    ids=repr,
)
def test_the_certain_errors_are_listed(error: Exception, certain: bool) -> None:
    assert is_certain(error) is certain


# What a LIST proves


@pytest.mark.parametrize(
    ("headers", "paged"),
    [
        ({}, False),
        ({"Link": '</gpu/instances/?page=2>; rel="next"'}, True),
        ({"Link": "</docs>; rel=help"}, False),
        ({"X-Total-Count": "3"}, False),
        ({"X-Total-Count": "4"}, True),
        ({"X-Total-Count": "many"}, False),
        ({"Content-Range": "items 0-2/250"}, True),
        ({"Content-Range": "items 0-2/*"}, False),
    ],
)
def test_a_paged_list_announces_itself(headers: dict[str, str], paged: bool) -> None:
    assert is_paged(headers, 3) is paged


def test_a_list_must_hold_what_is_known_to_live() -> None:
    evidence = Evidence(60)
    over: list[str] = []
    evidence.on_over(over.append)
    evidence.saw(Kind.VM, "a", Status.ACTIVE, 100)
    assert evidence.is_complete(Kind.VM, {"a"}, 1000)
    assert not evidence.is_complete(Kind.VM, set(), 160)
    assert evidence.is_complete(Kind.VM, set(), 159)  # it may be slow to show
    assert evidence.is_complete(Kind.CONTAINER, set(), 1000)
    evidence.saw(Kind.VM, "a", Status.ENDED, 100)
    assert evidence.is_complete(Kind.VM, set(), 1000)
    assert over == ["a"]
    for number in range(10_000):
        evidence.saw(Kind.VM, str(number), Status.ACTIVE, 0)
    assert not evidence.is_complete(Kind.VM, {"9998"}, 1000)
    assert len(evidence._live[Kind.VM]) <= 256


def test_only_an_end_or_a_late_list_is_proof() -> None:
    evidence = Evidence(60)
    assert evidence.is_over(Status.ENDED, 0, 0)
    assert evidence.is_over(Status.FAILED, 0, 0)
    assert not evidence.is_over(Status.ACTIVE, 10**6, 0)
    assert not evidence.is_over(Status("PAUSED"), 10**6, 0)
    assert not evidence.is_over(None, 59, 0)
    assert evidence.is_over(None, 60, 0)


def test_refusals_in_flight_together_count_once() -> None:
    key = KeyDoubt()
    assert [key.refused(0, 1), key.refused(0.5, 1.1), key.refused(0.9, 1.2)] == [False] * 3
    assert not key.refused(1.5, 2)
    assert key.refused(2.5, 3)
    key.accepted()
    assert not key.refused(4, 5)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_page_of_a_list_rules_nothing_out(announced: bool) -> None:
    def page(request: Request, reply: Reply) -> Reply:
        if not is_list(request) or len(rows := reply.json()) <= 100:
            return reply
        link = {"Link": '</gpu/instances/?page=2>; rel="next"'} if announced else {}
        return Reply(200, {**reply.headers, **link}, json.dumps(rows[:100]).encode())

    oldest = LIKELY.replace(list_order="oldest")  # so that a first page lacks what is new
    simulator = Simulator(balance=10**5, provisioning=Provisioning(median=30, sigma=0), profile=oldest)
    simulator.add_ended(150)
    async with session_behind(simulator, page, close_timeout=3600) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator, "held"))
        await asyncio.sleep(60)
        simulator.fail(POST, Fault.reset(), when="after")
        with pytest.raises(UncertainDeployError):
            await fluence.deploy_and_wait(container_spec(simulator))
        if announced:
            with pytest.raises(DecodeError, match="partial"):
                await fluence.ensure(container_spec(simulator, "other"))
    assert simulator.count(POST) == 2


@pytest.mark.parametrize("row", [None, 5, {}, {"id": "x"}, {"name": None}])
async def test_a_row_without_a_name_may_be_ours(row: Any) -> None:
    """The first deploy goes through; an unclear one is not ruled out."""

    def odd(request: Request, reply: Reply) -> Reply:
        if not is_list(request):
            return reply
        return attrs.evolve(reply, body=json.dumps([row, *reply.json()]).encode())

    simulator = Simulator()
    async with session_behind(simulator, odd) as fluence:
        await fluence.ensure(container_spec(simulator))
        simulator.fail(POST, Fault.reset(), when="before")
        with pytest.raises(UncertainDeployError):
            await fluence.containers.deploy(container_spec(simulator, "exp-2"))
    assert simulator.count(POST) == 2


# Clocks


def skewed(seconds: float) -> Change:
    def change(_: Request, reply: Reply) -> Reply:
        date = parsedate_to_datetime(reply.headers["Date"]) + timedelta(seconds=seconds)
        return attrs.evolve(reply, headers={**reply.headers, "Date": format_datetime(date, usegmt=True)})

    return change


@pytest.mark.parametrize("seconds", [-300, -90, 90, 300, 36_000])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_wrong_date_never_makes_two_in_silence(seconds: int, when: Any) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(502), when=when)
    uncertain: UncertainDeployError | None = None
    async with session_behind(simulator, skewed(seconds)) as fluence:
        try:
            await fluence.containers.deploy(container_spec(simulator))
        except UncertainDeployError as error:
            uncertain = error
    assert simulator.count(POST) == (2 if when == "before" else 1)
    assert len(simulator.live()) == 1
    if seconds < 0 or when == "before":
        assert uncertain is None
    else:
        assert uncertain is not None
        assert [ref.id for ref in uncertain.candidates] == [simulator.live()[0].id]


@pytest.mark.parametrize("known", [True, False])
async def test_a_suspended_machine_pays_once(known: bool) -> None:
    """The service's clock goes on for 8 hours while the loop's stands."""
    simulator = Simulator()
    ahead = 0.0

    def change(request: Request, reply: Reply) -> Reply:
        nonlocal ahead
        if request.method == "POST":
            ahead = 8 * 3600.0
            raise NoReplyError("timed out")
        return skewed(ahead)(request, reply)

    uncertain = False
    async with session_behind(simulator, change) as fluence:
        if known:
            await fluence.plans.containers()
        try:
            await fluence.containers.deploy(container_spec(simulator))
        except UncertainDeployError as error:
            uncertain = bool(error.candidates)
    assert simulator.count(POST) == len(simulator.live()) == 1
    assert uncertain is not known


# Statuses


def renamed(old: Status, new: str, *, lists: bool = True, details: bool = True) -> Change:
    def change(request: Request, reply: Reply) -> Reply:
        if (lists and is_list(request)) or (details and is_detail(request)):
            return attrs.evolve(reply, body=reply.body.replace(f'"{old}"'.encode(), f'"{new}"'.encode()))
        return reply

    return change


@pytest.mark.parametrize(("lists", "details"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("number", [1, 3, 30])
async def test_an_unknown_status_is_polled_on(number: int, lists: bool, details: bool) -> None:
    """Until 150 s the service says STARTING, which this release does not know."""
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    wire = renamed(Status.INITIALIZED, "STARTING", lists=lists, details=details)
    async with session_behind(simulator, wire) as fluence:
        specs = [container_spec(simulator, f"exp-{n}") for n in range(number)]
        report = await fluence.deploy_all_and_wait(specs, timeout=700)
        assert len(report.ready) == number
        assert now() < 170
    assert simulator.count() < 60 * number


async def test_an_unknown_status_permits_a_delete() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_behind(simulator, renamed(Status.ACTIVE, "DEGRADED")) as fluence:
        await abandon(fluence, simulator)
    assert simulator.count(DELETE) == 1
    assert simulator.live() == []


async def test_a_new_final_status_is_named_at_the_end() -> None:
    """The DELETE is tried with pauses that grow, and the close gives up in time."""
    simulator = Simulator(provisioning=SLOW)
    simulator.fail(DELETE, Fault.status(400, {"detail": "Instance was archived"}), times=None)
    with pytest.raises(CustodyError, match="archived") as caught:
        async with session_behind(
            simulator, renamed(Status.ACTIVE, "ARCHIVED"), close_timeout=3600
        ) as fluence:
            await abandon(fluence, simulator)
    assert [ref.id for ref in caught.value.refs] == [instance.id for instance in simulator.live()]
    assert 50 < simulator.count(DELETE) < 200


async def test_the_last_poll_can_succeed() -> None:
    """A LIST that came while a last GET was on its way does not make the GET's ACTIVE stale."""

    @attrs.define
    class Slow:
        inner: SimulatorWire

        async def send(self, request: Request) -> Reply:
            reply = await self.inner.send(request)
            await asyncio.sleep(0.06)
            return reply

        async def aclose(self) -> None:
            await self.inner.aclose()

    simulator = Simulator(provisioning=Provisioning(median=1, sigma=0))
    async with Session(DEFAULT_API_KEY, wire=Slow(SimulatorWire(simulator)), rate=FAST) as fluence:
        specs = [container_spec(simulator, name) for name in "abc"]
        refs = await asyncio.gather(*map(fluence.containers.deploy, specs))
        waits = [fluence.wait(ref, timeout=limit) for ref, limit in zip(refs, (3, 3, 3.03), strict=True)]
        assert {instance.status for instance in await asyncio.gather(*waits)} == {Status.ACTIVE}


# Gateways


PAGES = [
    Fault.status(404, "404 page not found"),
    Fault.status(404),
    Fault.status(403, "<html>blocked</html>"),
    Fault.status(401, "no"),
    Fault.status(503),
    Fault.status(302, b"", {"Location": "http://[::1/"}),
    Fault.status(200, "<html><title>Hotel Wifi"),
    Fault.status(200, {"error": "try later"}),
    Fault.status(200, b""),
]


@pytest.mark.parametrize("call", [GET, LIST, DELETE, "*"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.code}-{page.content[:6]!r}")
async def test_a_gateway_s_pages_write_nothing_off(call: str, page: Fault) -> None:
    """For four minutes, from before the instance may be deleted until long after."""
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        await abandon(fluence, simulator)
        fault = simulator.fail(call, page, times=None)
        await asyncio.sleep(240)
        assert fluence.custody.ending or not simulator.live()
        fault.cancel()
    assert simulator.live() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.code}-{page.content[:6]!r}")
async def test_gateway_pages_fail_no_wait(page: Fault) -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        refs = await asyncio.gather(
            *(fluence.containers.deploy(container_spec(simulator, f"exp-{n}")) for n in range(5))
        )
        simulator.fail("*", page, times=5)
        waited = await asyncio.gather(*map(fluence.wait, refs))
    assert {instance.status for instance in waited} == {Status.ACTIVE}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_stray_refusal_fails_no_wait(status: int, times: int) -> None:
    simulator = Simulator(balance=10**6, provisioning=SLOW)
    async with session_on(simulator) as fluence:
        tasks = [
            asyncio.ensure_future(fluence.deploy_and_wait(container_spec(simulator, f"exp-{n}")))
            for n in range(50)
        ]
        await asyncio.sleep(20)
        simulator.fail("*", Fault.status(status, {"detail": "hiccup"}), times=times)
        assert {instance.status for instance in await asyncio.gather(*tasks)} == {Status.ACTIVE}


@pytest.mark.parametrize(
    "look", [Fault.status(404), Fault.status(404, "404 page not found"), Fault.status(500)]
)
@pytest.mark.parametrize("first", [Fault.status(502), Fault.reset(), Fault.status(200, "<html>")])
async def test_a_delete_is_successful_only_when_proven(first: Fault, look: Fault) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(DELETE, first)
        simulator.fail(GET, look, times=3)
        try:
            await fluence.containers.terminate(container.id)
        except FluenceError:
            assert simulator.live()
        else:
            assert simulator.live() == []


async def test_an_unproven_delete_is_an_error() -> None:
    simulator = Simulator()
    async with session_on(simulator, retry=Retry(attempts=2)) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(DELETE, Fault.status(200, "<html>Hotel Wifi"), times=None)
        with pytest.raises(DecodeError):
            await fluence.containers.terminate(container.id)
        simulator.clear_faults()
    assert len(simulator.live()) == 1


async def test_a_list_proves_that_an_id_is_over() -> None:
    simulator = Simulator()
    ghost = InstanceRef(Kind.VM, "00000000-0000-0000-0000-000000000000", "ghost")
    async with session_on(simulator) as fluence:
        live = await fluence.deploy_and_wait(vm_spec(simulator))
        with pytest.raises(InstanceEndedError, match="does not know"):
            await fluence.wait(ghost)
        began = now()
        faults = simulator.fail("GET /gpu/instances/vms", Fault.body([]), times=None)
        with pytest.raises(WaitTimeoutError):  # these LISTs lack a live one as well
            await fluence.wait(ghost, timeout=400)
        assert now() - began >= 400
        faults.cancel()
        assert await fluence.terminate_and_wait(ghost) is None
    assert [instance.id for instance in simulator.live()] == [live.id]


# Updates


@pytest.mark.parametrize("delay", [1.0, 3.0, 40.0, 100.0])
@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.status(502), Fault.status(429), Fault.status(200, "<html>")]
)
async def test_an_update_is_rolled_out_once(delay: float, fault: Fault) -> None:
    """The answer is lost, and the service refuses another update until the first is done."""
    simulator = Simulator(provisioning=Provisioning(median=10, sigma=0, update_delay=delay))
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        pods = {line.pod for line in await fluence.containers.logs(container.id)}
        simulator.fail("PUT /gpu/instances/{id}", fault, when="after")
        update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
        updated = await fluence.update_and_wait(container, update)
        assert updated.container_info.image == OTHER_IMAGE
        await asyncio.sleep(300)
        pods |= {line.pod for line in await fluence.containers.logs(container.id)}
    taken = [r for r in simulator.requests if r.method == "PUT" and r.status in (204, None)]
    assert len(taken) <= 1
    assert len(pods) <= 2


# Doubts


async def test_a_cleared_doubt_is_forgotten() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(500), times=None)
    async with session_on(simulator, close_timeout=3000) as fluence:
        task = asyncio.ensure_future(fluence.deploy_and_wait(container_spec(simulator), timeout=None))
        await asyncio.sleep(200)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(100)
        assert fluence.custody.uncertain == ("exp-0",) or fluence.custody.watching
    assert simulator.instances() == []


@pytest.mark.parametrize("id", ["eu.5d1f", "", "x" * 65, "a/b", "id\n", "..", "a?b"])
async def test_an_instance_with_an_odd_id_is_not_denied(id: str) -> None:
    def change(request: Request, reply: Reply) -> Reply:
        if request.method == "POST" and reply.status == 201:
            return Reply(201, reply.headers, json.dumps({"instance_id": id}).encode())
        return reply

    simulator = Simulator()
    async with session_behind(simulator, change) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        (instance,) = simulator.live()
        assert [ref.id for ref in caught.value.candidates] == [instance.id]
    assert simulator.live() == []  # made by a deploy that was reported as failed


@pytest.mark.parametrize("number", [1, 200])
async def test_unclear_deploys_share_their_lists(number: int) -> None:
    """All POSTs are lost: the LISTs are those of one deploy, 3 s apart."""
    simulator = Simulator(balance=10**7, profile=ROOMY)
    simulator.fail(POST, Fault.reset(), when="before", times=number)
    async with session_on(simulator, max_in_flight=1000) as fluence:
        specs = [container_spec(simulator, f"exp-{n}") for n in range(number)]
        await asyncio.gather(*map(fluence.containers.deploy, specs))
        lists = [r.at for r in simulator.requests if f"{r.method} {r.path}" == LIST]
        assert len(lists) <= 33
        assert all(b - a >= 2.9 for a, b in itertools.pairwise(lists))
    assert len(simulator.live()) == number


# Custody, and what it says


async def test_a_delete_refused_for_20_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a provisioning of 12 minutes, with the default `close_timeout`."""
    simulator = Simulator(balance=10**6, provisioning=Provisioning(median=720, sigma=0.1))
    caplog.set_level(logging.WARNING, "aiofluence")
    refused = simulator.fail(DELETE, Fault.status(400, {"detail": "Minimum runtime not met"}), times=None)
    asyncio.get_running_loop().call_later(720 + 1200, refused.cancel)
    async with session_on(simulator) as fluence:
        await abandon(fluence, simulator, 8)
    assert len(simulator.instances()) == 8
    assert simulator.live() == []
    assert "0 of 8 ended" in caplog.text
    assert "Ctrl-C again leaves 8 running" in caplog.text
    assert any(" left" in line for line in caplog.messages)
    assert simulator.count(DELETE) < 8 * 150


async def test_a_close_without_progress_ends_early() -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError) as caught:
        async with session_on(simulator, close_timeout=10**5) as fluence:
            await abandon(fluence, simulator)
            simulator.fail("*", Fault.status(500), times=None)
            began = now()
    assert now() - began < 900
    assert len(caught.value.refs) == 1
