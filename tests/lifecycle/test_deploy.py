"""One deploy, one instance: with faults before and after the commit, late commits, lists that lag.

What counts is how many instances of the name are live, and what was billed, once the session has closed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    CustodyError,
    DecodeError,
    DeployPolicy,
    FluenceError,
    InsufficientBalanceError,
    NotSentError,
    Poll,
    RateLimitedError,
    Reply,
    Request,
    Session,
    Timeout,
    UncertainDeployError,
)
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire

from ..harness import BOTH, VIRTUAL, baremetal_spec, container_spec, now, session_on, vm_spec

POST = "POST /gpu/instances/"
LIST = "GET /gpu/instances/"

BROKEN_BODIES = [Fault.body({}), Fault.body(b'{"instance_id": '), Fault.body({"instance_id": 5})]


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.mark.parametrize(
    "fault",
    [Fault.reset(), Fault.cut(), Fault.hang(), *map(Fault.status, (408, 500, 502, 503, 504)), *BROKEN_BODIES],
    ids=lambda fault: f"{fault.effect.value}-{fault.code}",
)
@BOTH
async def test_a_lost_reply_is_found_by_name(fault: Fault, profile: Any) -> None:
    simulator = Simulator(profile=profile)
    simulator.fail(POST, fault, when="after")
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert [instance.id for instance in simulator.live()] == [ref.id]
    assert simulator.count(POST) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]


@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.cut(), Fault.status(502)], ids=lambda f: f.effect.value
)
@BOTH
async def test_a_lost_request_is_repeated(fault: Fault, profile: Any) -> None:
    simulator = Simulator(profile=profile)
    simulator.fail(POST, fault, when="before")
    async with session_on(simulator) as fluence:
        began = now()
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert now() - began >= DeployPolicy().settle
    assert simulator.count(POST) == 2
    assert [instance.id for instance in simulator.live()] == [ref.id]


@BOTH
async def test_each_kind_is_found_in_its_own_list(profile: Any) -> None:
    simulator = Simulator(profile=profile)
    simulator.fail("POST /gpu/instances/vms", Fault.reset(), when="after")
    simulator.fail("POST /gpu/instances/baremetal", Fault.reset(), when="after")
    async with session_on(simulator) as fluence:
        vm = await fluence.vms.deploy(vm_spec(simulator, "same"))
        metal = await fluence.baremetal.deploy(baremetal_spec(simulator, "same"))
        assert vm.id != metal.id
    assert {instance.id for instance in simulator.live()} == {vm.id, metal.id}


async def test_an_older_namesake_is_not_taken() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        old = await fluence.deploy_and_wait(container_spec(simulator))
    async with session_on(simulator) as fluence:
        simulator.fail(POST, Fault.reset(), when="after")
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert ref.id != old.id
    assert {instance.id for instance in simulator.live()} == {ref.id, old.id}


@BOTH
async def test_two_deploys_never_take_one_instance(profile: Any) -> None:
    simulator = Simulator(profile=profile)
    simulator.fail(POST, Fault.reset(), when="after", times=2)
    async with session_on(simulator) as fluence:
        specs = [container_spec(simulator), container_spec(simulator)]
        refs = await asyncio.gather(*(fluence.containers.deploy(spec) for spec in specs))
        assert len({ref.id for ref in refs}) == 2
    assert len(simulator.live()) == 2


async def test_a_reply_in_flight_belongs_to_its_deploy() -> None:
    """The first answer is lost, the second is slow: the first must not take what the second made."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before")
    simulator.fail(POST, Fault.slow(20))
    async with session_on(simulator) as fluence:
        specs = [container_spec(simulator), container_spec(simulator)]
        refs = await asyncio.gather(*(fluence.containers.deploy(spec) for spec in specs))
        assert len({ref.id for ref in refs}) == 2
    assert {instance.id for instance in simulator.live()} == {ref.id for ref in refs}


async def test_a_watch_spares_a_later_deploy() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    async with session_on(simulator) as fluence:
        first = await fluence.containers.deploy(container_spec(simulator))
        assert fluence.custody.watching == ("exp-1",)
        simulator.fail(POST, Fault.slow(40))
        second = await fluence.containers.deploy(container_spec(simulator))
    assert {instance.id for instance in simulator.live()} == {first.id, second.id}


@BOTH
async def test_the_duplicate_ends_and_the_first_stays(profile: Any) -> None:
    """The first commits just before the second is sent, and the list shows it later: it is the older one."""
    simulator = Simulator(list_lag=10, profile=profile)
    simulator.fail(POST, Fault.reset(), when="before", commit_after=85)
    async with session_on(simulator, close_timeout=900) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        await asyncio.sleep(60)
        (duplicate,) = fluence.custody.duplicates
    first, second = simulator.instances()
    assert (first.id, second.id) == (duplicate.id, ref.id)
    assert [instance.id for instance in simulator.live()] == [ref.id]


@BOTH
async def test_a_timeout_with_a_late_commit_and_list(profile: Any) -> None:
    simulator = Simulator(list_lag=5, profile=profile)
    simulator.fail(POST, Fault.hang(), when="before", commit_after=80)  # 20 s after our timeout
    async with session_on(simulator, timeout=Timeout(total=60)) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_the_watch_ends_a_commit_after_settle(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before", commit_after=120)
    caplog.set_level(logging.WARNING, "aiofluence")
    async with session_on(simulator, close_timeout=900) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == 2
    assert len(simulator.instances()) == 2
    assert [instance.id for instance in simulator.live()] == [ref.id]
    assert "deployed twice" in caplog.text


async def test_settling_ends_only_on_a_list_that_came() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    simulator.fail(LIST, Fault.status(500), times=100)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]


@BOTH
async def test_what_cannot_be_found_out_is_said(profile: Any) -> None:
    simulator = Simulator(profile=profile)
    simulator.fail(POST, Fault.reset(), when="after")
    lists = simulator.fail(LIST, Fault.status(500), times=None)
    policy = DeployPolicy(settle=10, watch=20)
    async with session_on(simulator, deploy=policy) as fluence:
        with pytest.raises(UncertainDeployError, match="exp-1") as caught:
            await fluence.containers.deploy(container_spec(simulator))
        assert caught.value.name == "exp-1"
        with pytest.raises(FluenceError):
            await caught.value.resolve()
        lists.cancel()
        ref = await caught.value.resolve()
        assert ref is not None
    assert simulator.count(POST) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]  # resolved, so it is the caller's


async def test_what_it_may_be_is_named() -> None:
    """A service whose clocks disagree: the row looks older than the deploy, so it is not surely ours."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")

    class Ahead(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            date = "Thu, 01 Jan 2026 10:30:00 GMT"
            return Reply(reply.status, {**reply.headers, "Date": date}, reply.body)

    policy = DeployPolicy(settle=5, watch=10, max_posts=1)
    async with Session("simulator-key", wire=Ahead(simulator), deploy=policy) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        (candidate,) = caught.value.candidates
    assert [instance.id for instance in simulator.live()] == [candidate.id]


async def test_posts_are_counted() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before", times=None)
    async with session_on(simulator, deploy=DeployPolicy(settle=5, watch=10, max_posts=2)) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        assert await caught.value.resolve() is None
    assert simulator.count(POST) == 2
    assert simulator.live() == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 520, 524])
@pytest.mark.parametrize("when", ["before", "after"])
@BOTH
async def test_no_status_is_believed(status: int, when: Any, profile: Any) -> None:
    """Before each further POST a LIST, requested `settle` seconds after the last one, lacks the name."""
    simulator = Simulator(list_lag=60, profile=profile)
    simulator.fail(POST, Fault.status(status), times=2, when=when)
    async with session_on(simulator, close_timeout=900) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == (1 if when == "after" else 3)
    times = [request.at for request in simulator.requests if f"{request.method} {request.path}" == POST]
    assert all(b - a >= DeployPolicy().settle for a, b in itertools.pairwise(times))
    assert [instance.id for instance in simulator.instances()] == [ref.id]


@pytest.mark.parametrize("status", [429, 503])
async def test_posts_are_counted_whatever_the_reply(status: int) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(status), times=None)
    async with session_on(simulator, close_timeout=900) as fluence:
        with pytest.raises((UncertainDeployError, RateLimitedError)):
            await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == DeployPolicy().max_posts


async def test_a_503_that_lied_is_found() -> None:
    simulator = Simulator(list_lag=4)
    simulator.fail(POST, Fault.status(503), times=1, when="after")
    async with session_on(simulator, close_timeout=900) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_trusted_503s_cost_one_poll() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(503), times=2)
    async with session_on(simulator, deploy=DeployPolicy(trust_503=True)) as fluence:
        began = now()
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert now() - began < 30
    assert simulator.count(POST) == 3
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_a_long_retry_after_is_not_waited_for() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(429, headers={"Retry-After": "86400"}))
    async with session_on(simulator) as fluence:
        with pytest.raises(RateLimitedError):
            await fluence.containers.deploy(container_spec(simulator))
        assert now() < 600
    assert simulator.instances() == []


async def test_a_refusal_is_final() -> None:
    simulator = Simulator()
    simulator.set_balance("0.01")
    async with session_on(simulator) as fluence:
        with pytest.raises(InsufficientBalanceError):
            await fluence.containers.deploy(container_spec(simulator))
        assert fluence.custody.watching == ()  # nothing can appear late
    async with Session("wrong-key", wire=SimulatorWire(simulator)) as stranger:
        with pytest.raises(AuthError):
            await stranger.containers.deploy(container_spec(simulator))
    assert simulator.instances() == []


async def test_a_refusal_after_an_unclear_post() -> None:
    simulator = Simulator()
    # The first commits late, and what it takes from the account is what the second then lacks.
    simulator.fail(POST, Fault.reset(), when="before", commit_after=95)
    simulator.fail(POST, Fault.status(400, {"detail": "Insufficient balance to deploy instance"}))
    async with session_on(simulator, close_timeout=900) as fluence:
        with pytest.raises(InsufficientBalanceError):
            await fluence.containers.deploy(container_spec(simulator))
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


def test_a_policy_that_makes_no_sense() -> None:
    for arguments in ({"settle": -1}, {"watch": -1}, {"max_posts": 0}, {"settle": float("nan")}):
        with pytest.raises(ConfigError):
            DeployPolicy(**arguments)


@attrs.define
class Meddler:
    """A wire that does something in the very step in which the answer to a POST comes."""

    service: SimulatorWire
    meddle: Callable[[], object]

    async def send(self, request: Request) -> Reply:
        reply = await self.service.send(request)
        if request.method == "POST":
            self.meddle()
        return reply

    async def aclose(self) -> None:
        await self.service.aclose()


async def test_a_reply_during_cancellations_is_kept() -> None:
    simulator = Simulator()
    others: list[asyncio.Task[Any]] = []
    wire = Meddler(SimulatorWire(simulator), lambda: [other.cancel() for other in others])
    async with Session(DEFAULT_API_KEY, wire=wire, max_in_flight=1) as fluence:
        deploying = asyncio.ensure_future(fluence.containers.deploy(container_spec(simulator)))
        await asyncio.sleep(0.01)
        others = [asyncio.ensure_future(fluence.containers.list()) for _ in range(3)]
        ref = await deploying
        await asyncio.wait(others)
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_a_caller_leaves_as_its_reply_comes() -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    callers: list[asyncio.Task[Any]] = []
    wire = Meddler(SimulatorWire(simulator), lambda: callers[0].cancel())
    async with Session(DEFAULT_API_KEY, wire=wire, close_timeout=900) as fluence:
        callers.append(asyncio.ensure_future(fluence.deploy_and_wait(container_spec(simulator))))
        await asyncio.wait(callers)
        assert callers[0].cancelled()
    assert simulator.live() == []
    assert now() < 100  # the session has not waited for somebody who is gone


async def test_a_failing_on_reply_costs_no_instance(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()

    def look_on(call: object, reply: object) -> None:
        raise ZeroDivisionError

    async with session_on(simulator, on_reply=look_on) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]
    assert "on_reply failed" in caplog.text


async def test_a_foreign_error_is_unclear() -> None:
    """Such as one of a wire that somebody else has written."""
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    wire = Meddler(SimulatorWire(simulator), lambda: 1 / 0)
    async with Session(DEFAULT_API_KEY, wire=wire, close_timeout=900) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_odd_rows_of_other_names_are_ignored() -> None:
    """An account's list is as old as the account, and one row of it fits no model."""

    class Museum(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            if (request.method, request.path, reply.status) == ("GET", "/gpu/instances/", 200):
                return attrs.evolve(reply, body=json.dumps([{"name": "exp-0"}, *reply.json()]).encode())
            return reply

    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    async with Session(DEFAULT_API_KEY, wire=Museum(simulator)) as fluence:
        with pytest.raises(DecodeError):
            await fluence.containers.list()
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert await fluence.ensure(container_spec(simulator)) == ref
    assert [instance.id for instance in simulator.instances()] == [ref.id]


@attrs.frozen
class Gateway:
    """What nginx does in front of a service: it writes its own `Date`, by its own clock."""

    service: SimulatorWire
    ahead: timedelta
    zone: str = "GMT"

    async def send(self, request: Request) -> Reply:
        reply = await self.service.send(request)
        date = format_datetime(self.service.simulator.time + self.ahead, usegmt=True)
        return attrs.evolve(reply, headers={**reply.headers, "Date": date.replace("GMT", self.zone)})

    async def aclose(self) -> None:
        await self.service.aclose()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's zone cannot be changed")
async def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    wire = Gateway(SimulatorWire(simulator), timedelta(0), zone="")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        try:
            async with Session(DEFAULT_API_KEY, wire=wire) as fluence:
                ref = await fluence.containers.deploy(container_spec(simulator))
        finally:
            patch.undo()
            time.tzset()
    assert [instance.id for instance in simulator.instances()] == [ref.id]


async def test_a_date_beyond_all_time_is_none() -> None:
    simulator = Simulator()
    wire = Gateway(SimulatorWire(simulator), timedelta(0), zone="+99999999999999")
    async with Session(DEFAULT_API_KEY, wire=wire) as fluence:
        await fluence.plans.containers()
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]


@pytest.mark.parametrize("seconds", [-45, -5, 5, 45])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_wrong_gateway_clock_makes_no_second(seconds: int, when: Any) -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when=when)
    wire = Gateway(SimulatorWire(simulator), timedelta(seconds=seconds))
    async with Session(DEFAULT_API_KEY, wire=wire) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]
    assert simulator.count(POST) == (1 if when == "after" else 2)


async def test_time_lapse_finds_a_duplicate_sooner() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before", commit_after=12)
    policy = DeployPolicy(settle=9, watch=60)
    async with session_on(simulator, poll=Poll(interval=1), deploy=policy, close_timeout=900) as fluence:
        began = now()
        ref = await fluence.containers.deploy(container_spec(simulator))
        assert now() - began < 12
        await asyncio.sleep(began + 20 - now())
        assert len(fluence.custody.duplicates) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_an_unsent_list_proves_nothing() -> None:
    """The connection is refused for a while: the deploy goes on looking for its instance."""
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        simulator.fail(POST, Fault.reset(), when="after")
        simulator.fail(LIST, Fault.refuse(), times=30)
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == 1
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_a_session_that_closes_ends_the_search() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), times=None)
    with pytest.raises(CustodyError, match="exp-1"):
        async with session_on(simulator, deploy=DeployPolicy(settle=5000), close_timeout=60) as fluence:
            deploying = asyncio.ensure_future(fluence.containers.deploy(container_spec(simulator)))
            await asyncio.sleep(10)
            began = now()
    with pytest.raises(FluenceError):
        await deploying
    assert now() - began < 100
    assert simulator.count(POST) == 1


async def test_the_close_names_an_unclear_deploy() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    simulator.fail(LIST, Fault.status(500), times=None)
    with pytest.raises(CustodyError) as caught:
        async with session_on(simulator, close_timeout=60) as fluence:
            deploying = asyncio.ensure_future(fluence.containers.deploy(container_spec(simulator)))
            await asyncio.sleep(5)
            deploying.cancel()
            await asyncio.wait([deploying])
            await asyncio.sleep(3000)  # by now the search has ended
    assert caught.value.names == ("exp-1",)
    assert len(simulator.live()) == 1


async def test_a_resolved_instance_is_not_found_again() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    simulator.fail(LIST, Fault.status(500), times=None)
    async with session_on(simulator, deploy=DeployPolicy(watch=0)) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        simulator.clear_faults()
        first = await caught.value.resolve()
        assert first is not None
        simulator.fail(POST, Fault.reset(), when="after")
        second = await fluence.containers.deploy(container_spec(simulator))
    assert {instance.id for instance in simulator.live()} == {first.id, second.id}
    assert first.id != second.id


async def test_a_resolved_instance_is_the_callers(tmp_path: Path) -> None:
    """A sweep of the journal by a later run does not end it."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    simulator.fail(LIST, Fault.status(500), times=None)
    options: Any = {"journal": tmp_path / "run.journal", "deploy": DeployPolicy(settle=5, watch=0)}
    async with session_on(simulator, **options) as fluence:
        with pytest.raises(UncertainDeployError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
        simulator.clear_faults()
        ref = await caught.value.resolve()
    assert ref is not None
    async with session_on(simulator, **options) as later:
        assert (await later.sweep(dry_run=False)).found == ()
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_a_foreign_error_of_a_list_shows_nothing() -> None:
    class Broken(SimulatorWire):
        broken = 1

        async def send(self, request: Request) -> Reply:
            if request.method == "GET" and self.broken:
                self.broken -= 1
                raise RuntimeError("a bug of this wire")
            return await super().send(request)

    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after")
    async with Session(DEFAULT_API_KEY, wire=Broken(simulator)) as fluence, asyncio.timeout(60):
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_two_unclear_posts_leave_no_entry(tmp_path: Path) -> None:
    """The first made nothing, and the reply to the second was lost."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before")
    simulator.fail(POST, Fault.reset(), when="after")
    options: Any = {"journal": tmp_path / "run.journal", "deploy": DeployPolicy(settle=5, watch=30)}
    async with session_on(simulator, **options) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count(POST) == 2
    async with session_on(simulator, **options) as later:
        report = await later.sweep(dry_run=False)
        assert (report.found, report.unsettled) == ((), ())
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_two_that_adopt_share_one_despite_a_lag() -> None:
    """Each waits until a LIST shows its own instance: then the LIST shows the older one, too."""
    simulator = Simulator(list_lag=20)

    async def program() -> str:
        async with session_on(simulator, deploy=DeployPolicy(settle=30, watch=200)) as fluence:
            return (await fluence.ensure(container_spec(simulator))).id

    (id,) = set(await asyncio.gather(program(), program()))
    assert simulator.count(POST) == 2
    assert [instance.id for instance in simulator.live()] == [id]


async def test_two_that_adopt_while_lists_lag_are_named() -> None:
    """No LIST shows the own instance within `settle`, so that another program may hold a second one."""
    simulator = Simulator(list_lag=120)

    async def program() -> str:
        async with session_on(simulator, deploy=DeployPolicy(settle=30, watch=200)) as fluence:
            ref = await fluence.ensure(container_spec(simulator))
            await asyncio.sleep(400)
            assert fluence.custody.uncertain == ("exp-1",)
        return ref.id

    errors = await asyncio.gather(program(), program(), return_exceptions=True)
    assert [error.names for error in errors if isinstance(error, CustodyError)] == [("exp-1",)] * 2
    assert len(simulator.live()) == 2


@pytest.mark.parametrize("adopt", [False, True])
async def test_an_unsent_second_post_leaves_a_doubt(adopt: bool) -> None:
    """The first POST's reply was lost. Its instance may still come, but the service is away from then on."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset())
    simulator.fail(POST, Fault.refuse(), times=None)
    with pytest.raises(CustodyError) as caught:
        async with session_on(simulator, deploy=DeployPolicy(settle=30, watch=100)) as fluence:
            with pytest.raises(NotSentError):
                await fluence.deploy_and_wait(container_spec(simulator), adopt=adopt)
            simulator.fail("*", Fault.refuse(), times=None)
    assert caught.value.names == ("exp-1",)


async def test_empty_lists_disprove_no_duplicate() -> None:
    """LISTs show two instances of the name, and then none. An account's LIST keeps even ended instances."""

    class Emptied(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            is_late = asyncio.get_running_loop().time() > began + 40
            return Reply(200, reply.headers, b"[]") if is_late and request.method == "GET" else reply

    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="after", skip=1)
    began = asyncio.get_running_loop().time()

    async def program() -> None:
        policy = DeployPolicy(settle=30, watch=200)
        async with Session(DEFAULT_API_KEY, wire=Emptied(simulator), deploy=policy) as fluence:
            await fluence.ensure(container_spec(simulator))
            await asyncio.sleep(400)

    errors = await asyncio.gather(program(), program(), return_exceptions=True)
    assert [error.names for error in errors if isinstance(error, CustodyError)] == [("exp-1",)]
    assert len(simulator.live()) == 2


async def test_two_that_adopt_while_lists_fail() -> None:
    """Each has an instance that it may not end for the other: neither is ended, and the name is in doubt."""
    simulator = Simulator()
    spec = container_spec(simulator)
    told = []

    async def program(first: bool) -> None:
        async with session_on(simulator, close_timeout=900) as fluence:
            got = asyncio.ensure_future(fluence.deploy_and_wait(spec, adopt=True, timeout=None))
            while simulator.count(POST) < 2:
                await asyncio.sleep(0.01)
            if first:
                simulator.fail(LIST, Fault.status(500), times=None)
                await asyncio.sleep(200)
                simulator.clear_faults()
            told.append((await got).id)
            await asyncio.sleep(600)

    results = await asyncio.gather(program(True), program(False), return_exceptions=True)
    assert {instance.id for instance in simulator.live()} == set(told)
    assert len(set(told)) == 2
    assert [error.names for error in results if isinstance(error, CustodyError)] == [("exp-1",)] * 2
