"""Launching what may be there already, with arguments that may be wrong, on a network that may be away.

On virtual time. What counts is what was sent, what was billed and what is left running.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiofluence import (
    ConfigError,
    ContainerSpec,
    DecodeError,
    DeployPolicy,
    FluenceError,
    LaunchError,
    LaunchProgress,
    LaunchState,
    NotSentError,
    Session,
    SpecError,
    UncertainDeployError,
    Until,
    WaitTimeoutError,
)
from aiofluence.http.messages import Reply, Request
from aiofluence.models.specs import Spec
from aiofluence.simulator import DEFAULT_API_KEY, LIKELY, Fault, Provisioning, Simulator, SimulatorWire

from ..harness import FAST, VIRTUAL, container_spec, now, session_on, vm_spec
from ..lives import resource_of

SLOW = Provisioning(median=150, sigma=0.0)
POST = "POST /gpu/instances/"
LIST = "GET /gpu/instances/"
QUICK_TO_END = LIKELY.replace(minimum_runtime=0)
VM_LIST = "GET /gpu/instances/vms"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def many(simulator: Simulator, count: int, **fields: Any) -> list[ContainerSpec]:
    return container_spec(simulator, "exp-{i}", **fields).many(count)


async def killed_after(simulator: Simulator, specs: list[Spec], **options: Any) -> set[str]:
    """Deploy `specs` and forget them, as a process that was killed does; the ids."""
    async with session_on(simulator, **options) as fluence:
        for spec in specs:
            await resource_of(fluence, spec).deploy(spec)
    return {instance.id for instance in simulator.live()}


# Names that are live already


async def test_live_names_are_refused_before_a_deploy() -> None:
    simulator = Simulator(provisioning=SLOW)
    there: list[Spec] = [*many(simulator, 2), vm_spec(simulator)]
    ids = await killed_after(simulator, there)
    spent, requests = simulator.spent(), len(simulator.requests)
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError) as caught:
            await fluence.deploy_all_and_wait([*many(simulator, 40), vm_spec(simulator)])
    assert all(id in str(caught.value) for id in ids)
    assert "adopt=True" in str(caught.value)
    assert "nothing was sent" in str(caught.value)
    assert len(simulator.requests) - requests == 2, "one LIST a kind"
    assert simulator.spent() == spent
    assert len(simulator.instances()) == 3


async def test_names_of_other_kinds_and_ended_are_free() -> None:
    simulator = Simulator(provisioning=Provisioning(median=10, sigma=0))
    async with session_on(simulator) as fluence:
        simulator.fail_next_provisioning()
        first = await fluence.deploy_all_and_wait(many(simulator, 2))
        for instance in first.instances:
            await fluence.terminate_and_wait(instance)
        vm = await fluence.vms.deploy(vm_spec(simulator, "exp-0"))
        report = await fluence.deploy_all_and_wait(many(simulator, 2))
        assert len(report.ready) == 2
    assert len(simulator.live()) == 3
    assert vm.id in {instance.id for instance in simulator.live()}


@pytest.mark.parametrize("adopt", [False, True])
async def test_without_a_list_nothing_is_deployed(adopt: bool) -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(500), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(FluenceError) as caught:
            await fluence.deploy_all_and_wait(many(simulator, 3), adopt=adopt)
        assert not isinstance(caught.value, LaunchError)
    assert simulator.count(POST) == 0


async def test_a_paged_list_proves_no_name_free() -> None:
    simulator = Simulator()
    paged = Fault.status(200, [], {"Link": '</gpu/instances/?page=2>; rel="next"'})
    simulator.fail(LIST, paged, times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(DecodeError, match="cannot be ruled out; nothing was sent"):
            await fluence.deploy_all_and_wait(many(simulator, 3))
    assert simulator.count(POST) == 0


@pytest.mark.parametrize("adopt", [False, True])
async def test_a_row_that_cannot_be_read_is_taken(adopt: bool) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        await fluence.containers.deploy(container_spec(simulator, "exp-1"))
        row = json.loads((await fluence.request("GET", "/gpu/instances/")).body)[0]
        simulator.fail(LIST, Fault.body([row | {"created_at": 5}]), times=None)
        with pytest.raises(ConfigError, match=r"container exp-1 \(a row that cannot be read\)"):
            await fluence.deploy_all_and_wait(many(simulator, 3), adopt=adopt)
    assert simulator.count(POST) == 1


async def test_a_timeout_before_the_first_deploy() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.hang(), times=None)
    async with session_on(simulator) as fluence:
        began = now()
        with pytest.raises(WaitTimeoutError, match="before anything was deployed"):
            await fluence.deploy_all_and_wait(many(simulator, 3), timeout=20)
        assert now() - began == pytest.approx(20, abs=1)
    assert simulator.count(POST) == 0


async def test_names_being_ended_are_free() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        first = await fluence.deploy_all_and_wait(many(simulator, 3), timeout=20)
        assert len(first.terminated) == 3
        report = await fluence.deploy_all_and_wait(many(simulator, 3))
        assert len(report.ready) == 3
    assert Counter(i.name for i in simulator.live()) == {"exp-0": 1, "exp-1": 1, "exp-2": 1}


async def test_check_is_a_dry_run() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        await fluence.launch(many(simulator, 3), max_hourly="0.42").check()
        with pytest.raises(ConfigError, match="over max_hourly"):
            await fluence.launch(many(simulator, 3), max_hourly="0.41").check()
        with pytest.raises(ConfigError, match="min_ready"):
            await fluence.launch(many(simulator, 3), min_ready=4).check()
        await fluence.containers.deploy(container_spec(simulator, "exp-1"))
        with pytest.raises(ConfigError) as caught:
            await fluence.launch(many(simulator, 3), max_hourly="0.41").check()
        assert "exp-1" in str(caught.value)
        assert "over max_hourly" in str(caught.value), "all problems at once"
        async with fluence.launch(container_spec(simulator, "b-{i}").many(3), max_hourly=1) as launch:
            await launch.complete()
    assert simulator.count(POST) == 4


# Resuming a launch that was killed


async def test_a_killed_launch_is_resumed() -> None:
    simulator = Simulator(provisioning=SLOW)
    ids = await killed_after(simulator, [*many(simulator, 3), vm_spec(simulator)])
    async with session_on(simulator) as fluence:
        specs: list[Spec] = [*many(simulator, 6), vm_spec(simulator)]
        report = await fluence.deploy_all_and_wait(specs, adopt=True, min_ready=7, until=Until.READY)
        assert len(report.ready) == 7
        assert ids < {outcome.ref.id for outcome in report.ready if outcome.ref}
    assert len(simulator.instances()) == len(simulator.live()) == 7
    assert simulator.spent() == 6 * Decimal("0.14") + simulator.catalog.find("vm").hourly


async def test_resuming_looks_once_a_kind_for_all() -> None:
    simulator = Simulator(provisioning=Provisioning(median=1, sigma=0))
    await killed_after(simulator, [*many(simulator, 50)])
    await asyncio.sleep(10)
    lists = simulator.count(LIST)
    async with session_on(simulator) as fluence:
        async with fluence.launch(many(simulator, 50), adopt=True) as launch:
            await asyncio.sleep(2)
            asked = simulator.count(LIST) - lists
            report = await launch.complete()
        assert len(report.ready) == 50
    assert asked <= 3
    assert simulator.count(POST) == 50


async def test_a_quorum_counts_what_was_adopted() -> None:
    simulator = Simulator(provisioning=SLOW)
    await killed_after(simulator, [*many(simulator, 4)])
    simulator.fail_next_provisioning(2)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 6), adopt=True, min_ready=4)
        assert (len(report.ready), len(report.failed)) == (4, 2)
        simulator.fail_next_provisioning(2)
        with pytest.raises(LaunchError, match="4 of at least 5"):
            await fluence.deploy_all_and_wait(many(simulator, 6), adopt=True, min_ready=5)
    assert simulator.live() == [], "what was adopted is the launch's, and given up with it"


async def test_an_instance_that_ends_meanwhile_is_replaced() -> None:
    """The first LIST shows it live, and its detail, which has the price, shows it ended."""
    simulator = Simulator(provisioning=Provisioning(median=10, sigma=0), profile=QUICK_TO_END)
    async with session_on(simulator) as fluence:
        first = await fluence.deploy_and_wait(container_spec(simulator, "exp-0"))

    class Ending(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            if (request.method, request.path) == ("GET", f"/gpu/instances/{first.id}"):
                await super().send(Request("DELETE", request.path, headers=request.headers))
            return await super().send(request)

    async with Session(DEFAULT_API_KEY, wire=Ending(simulator), rate=FAST) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 1), adopt=True, max_hourly="10")
    assert [instance.id for instance in simulator.live()] == [report.instances[0].id] != [first.id]


async def test_adopted_instances_count_at_their_price() -> None:
    simulator = Simulator(provisioning=SLOW)
    dear = simulator.catalog.find("container", "h100").id  # 1.62
    await killed_after(simulator, [*many(simulator, 1, plan_id=dear)])
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match=r"1 live instances and 2 specs cost 1\.90 USDC"):
            await fluence.deploy_all_and_wait(many(simulator, 3), adopt=True, max_hourly="1.89")
        assert simulator.count(POST) == 1
        report = await fluence.deploy_all_and_wait(many(simulator, 3), adopt=True, max_hourly="1.90")
        assert report.hourly_cost == Decimal("1.90")
    assert len(simulator.instances()) == 3


async def test_what_is_missing_falls_back_as_ever() -> None:
    simulator = Simulator(provisioning=SLOW)
    await killed_after(simulator, [*many(simulator, 2)])
    simulator.sell_out(simulator.catalog.find("container", "t4").id)
    other = simulator.catalog.find("container", "v100").id
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 4), adopt=True, fallback=other)
        assert len(report.ready) == 4
    assert len(simulator.instances()) == 4
    assert Counter(instance.offer.id == other for instance in simulator.live()) == {True: 2, False: 2}


async def test_two_programs_resume_the_same_launch() -> None:
    simulator = Simulator(provisioning=SLOW)
    await killed_after(simulator, [*many(simulator, 2)])

    async def resume() -> set[str]:
        async with session_on(simulator) as fluence:
            report = await fluence.deploy_all_and_wait(many(simulator, 4), adopt=True)
            return {outcome.ref.id for outcome in report.ready if outcome.ref}

    first, second = await asyncio.gather(resume(), resume())
    assert first == second == {instance.id for instance in simulator.live()}
    assert len(first) == 4


async def test_twins_of_one_name_are_named(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(provisioning=SLOW)
    ids = await killed_after(simulator, [*many(simulator, 1)])
    duplicates = await killed_after(simulator, [*many(simulator, 1)]) - ids
    with caplog.at_level(logging.WARNING):
        async with session_on(simulator) as fluence:
            report = await fluence.deploy_all_and_wait(many(simulator, 1), adopt=True)
    assert {outcome.ref.id for outcome in report.ready if outcome.ref} == ids
    (duplicate,) = duplicates
    assert duplicate in caplog.text


async def test_a_resumed_launch_closes_journal_entries(tmp_path: Path) -> None:
    simulator = Simulator(provisioning=SLOW)
    journal = tmp_path / "run.journal"
    async with session_on(simulator) as fluence:
        await fluence.containers.deploy(container_spec(simulator, "exp-0"))
    async with session_on(simulator, journal=journal) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 2), adopt=True)
        assert len(report.ready) == 2
    async with session_on(simulator, journal=journal) as fluence:
        swept = await fluence.sweep(dry_run=False)
    assert swept.found == ()
    assert len(simulator.live()) == 2


# Arguments


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"timeout": "10m"}, "timeout is a number of seconds or None, not '10m'"),
    ({"timeout": True}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": Decimal(10)}, "timeout"),
    ({"until": "soon"}, "until is one of Until.ACTIVE ('active'), Until.READY"),
    ({"until": None}, "until"),
    ({"on_failure": "kill"}, "on_failure is 'terminate' or 'keep', not 'kill'"),
    ({"on_failure": []}, "on_failure"),
    ({"adopt": "yes"}, "adopt is True or False, not 'yes'"),
]
WRONG_OF_MANY: list[tuple[dict[str, Any], str]] = [
    ({"min_ready": "2"}, "min_ready is a whole number from 0 to 3 or None, not '2'"),
    ({"min_ready": 1.5}, "min_ready"),
    ({"min_ready": True}, "min_ready"),
    ({"min_ready": 4}, "min_ready"),
    ({"max_hourly": "abc"}, "max_hourly is an amount of money"),
    ({"max_hourly": float("nan")}, "max_hourly"),
    ({"max_hourly": True}, "max_hourly"),
    ({"max_hourly": -1}, "max_hourly"),
    ({"max_hourly": [1]}, "max_hourly"),
    ({"fallback": 5}, "fallback is the id of a plan, an Offer or a function, not 5"),
    ({"fallback": None}, "fallback"),
    ({"fallback": "two words"}, "fallback"),
    ({"fallback": ["plan-a", None, Path("x")]}, "fallback[1]"),
    ({"fallback": ["# A README\n" * 50]}, "fallback"),
    ({"on_progress": "print"}, "on_progress"),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG + WRONG_OF_MANY)
async def test_a_wrong_argument_of_a_launch_is_named(wrong: dict[str, Any], told: str) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError) as caught:
            await fluence.deploy_all_and_wait(many(simulator, 3), **wrong)
        assert told in str(caught.value)
        assert len(str(caught.value)) < 250
        with pytest.raises(ConfigError):
            async with fluence.launch(many(simulator, 3), **wrong):
                pytest.fail("entered")
    assert simulator.requests == []


@pytest.mark.parametrize(("wrong", "told"), WRONG)
async def test_a_wrong_argument_of_a_deploy_is_named(wrong: dict[str, Any], told: str) -> None:
    simulator = Simulator()
    spec = container_spec(simulator)
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError) as caught:
            await fluence.deploy_and_wait(spec, **wrong)
        assert told in str(caught.value)
        if "on_failure" not in wrong:
            with pytest.raises(ConfigError):
                async with fluence.running(spec, **wrong):
                    pytest.fail("entered")
    assert simulator.requests == []


async def test_wrong_arguments_of_the_other_verbs() -> None:
    simulator = Simulator()
    wrong: Any = "10m"
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        asked = len(simulator.requests)
        with pytest.raises(ConfigError, match="timeout"):
            await fluence.wait(ref, timeout=wrong)
        with pytest.raises(ConfigError, match=r"Until\.READY"):
            await fluence.wait(ref, until=wrong)
        with pytest.raises(ConfigError, match="timeout"):
            await fluence.terminate_and_wait(ref, timeout=wrong)
        with pytest.raises(ConfigError, match="update is a ContainerUpdate, not a str"):
            await fluence.update_and_wait(ref, wrong)
        with pytest.raises(ConfigError, match="timeout"):
            await fluence.ensure(container_spec(simulator), timeout=wrong)
        with pytest.raises(ConfigError, match="until"):
            await fluence.ensure(container_spec(simulator), until=wrong)
        with pytest.raises(ConfigError, match="ContainerSpec"):
            await fluence.deploy_and_wait(wrong)
        given: list[Any] = [wrong, container_spec(simulator), None, [container_spec(simulator), wrong]]
        for specs in given:
            with pytest.raises(ConfigError, match="spec"):
                await fluence.deploy_all_and_wait(specs)
    assert len(simulator.requests) == asked


async def test_every_problem_of_a_call_is_named_at_once() -> None:
    simulator = Simulator()
    wrong: Any = "10m"
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError) as caught:
            await fluence.deploy_all_and_wait(
                many(simulator, 3), timeout=wrong, min_ready=9, max_hourly="abc", fallback=wrong + " "
            )
        assert [line.split()[0] for line in str(caught.value).splitlines()] == [
            *("4", "timeout", "min_ready", "max_hourly", "fallback")
        ]
        with pytest.raises(SpecError) as refused:
            await fluence.deploy_all_and_wait(
                [container_spec(simulator, "Bad"), vm_spec(simulator, ssh_key="ssh-rsa")], timeout=wrong
            )
        assert [problem.split(":")[0] for problem in refused.value.problems[:2]] == ["Bad", "vm-1"]
        assert "timeout" in refused.value.problems[2]
    assert simulator.requests == []


async def test_an_unknown_fallback_id_is_refused() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        known = simulator.catalog.find("container", "v100").id
        with pytest.raises(ConfigError, match="fallback: no container plan is for sale now as: nope, other"):
            await fluence.deploy_all_and_wait(
                many(simulator, 2), max_hourly=1, fallback=["nope", known, "other"]
            )
    assert simulator.count(POST) == 0


async def test_fallbacks_may_come_from_a_generator() -> None:
    simulator = Simulator()
    first, second = (simulator.catalog.find("container", gpu).id for gpu in ("t4", "v100"))
    simulator.sell_out(first)
    given: Any = (plan for plan in [second])
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 3, plan_id=first), fallback=given)
    assert len(report.ready) == 3


# A network that is away


class Away:
    """Takes the network away from now on; `back` gives it back after some seconds."""

    def __init__(self, simulator: Simulator) -> None:
        self._script = simulator.fail("*", Fault.refuse(), when="before", times=None)

    def back_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._script.cancel)


@pytest.mark.parametrize("options", [{}, {"max_hourly": 10}, {"adopt": True}])
async def test_a_launch_survives_a_minute_without_dns(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        Away(simulator).back_in(60)
        report = await fluence.deploy_all_and_wait(many(simulator, 40), timeout=900, **options)
        assert len(report.ready) == 40
    assert len(simulator.instances()) == 40
    assert caplog.text.count("cannot be reached") == 1


async def test_a_launch_survives_a_lost_network() -> None:
    simulator = Simulator()
    states: list[str] = []

    def note(event: LaunchProgress) -> None:
        if event.index == 39:
            states.append(event.state)
        if event.counts[LaunchState.PROVISIONING] == 5 and not away:
            away.append(Away(simulator))
            away[0].back_in(60)

    away: list[Away] = []
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 40), on_progress=note)
        assert len(report.ready) == 40
        posted = [outcome.times.posted for outcome in report.outcomes]
        assert max(map(len, posted)) > 1
    assert len(simulator.instances()) == 40


async def test_a_lost_network_fails_at_the_deadline() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        began = now()
        Away(simulator)
        with pytest.raises((NotSentError, WaitTimeoutError)) as caught:
            await fluence.deploy_all_and_wait(many(simulator, 3), timeout=300)
        if isinstance(caught.value, WaitTimeoutError):  # it came in the middle of a try
            assert isinstance(caught.value.last_error, NotSentError)
        assert 250 < now() - began <= 300
    assert simulator.instances() == []


async def test_unsent_deploys_have_failed() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.refuse(), when="before", times=None)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 40), timeout=300)
        assert len(report.failed) + len(report.terminated) == 40, "some were in the middle of a try"
        assert {type(outcome.error) for outcome in report.outcomes} <= {NotSentError, WaitTimeoutError}
        async with fluence.launch(many(simulator, 40)) as launch:
            await asyncio.sleep(30)
        assert len(launch.report.failed) + len(launch.report.terminated) == 40
        assert all(outcome.error is not None for outcome in launch.report.failed)
    assert simulator.instances() == []


async def test_a_closed_launch_stops_its_outage_wait() -> None:
    simulator = Simulator(balance=Decimal("0.42"))
    simulator.fail(POST, Fault.refuse(), when="before", skip=2, times=100)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 20), min_ready=1)
        assert (len(report.ready), len(report.failed)) == (1, 19)
    assert len(simulator.instances()) == 1


async def test_posts_before_an_outage_count() -> None:
    """A batch deploys again after a POST that was not sent. `max_posts` covers both deploys."""
    simulator = Simulator()
    simulator.fail(POST, Fault.reset(), when="before", times=1)
    simulator.fail(POST, Fault.refuse(), when="before", times=8)
    simulator.fail(POST, Fault.reset(), when="before", times=None)
    policy = DeployPolicy(settle=5, watch=10, max_posts=2)
    async with session_on(simulator, deploy=policy) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 1))
        assert [type(outcome.error) for outcome in report.unknown] == [UncertainDeployError]
    assert simulator.count(POST) == 2


async def test_what_can_never_be_sent_fails_at_once() -> None:
    simulator = Simulator()
    fluence = session_on(simulator)
    async with fluence:
        pass
    began = now()
    with pytest.raises(NotSentError):
        await fluence.deploy_all_and_wait(many(simulator, 2))
    assert now() == began


# What is certain


@pytest.mark.parametrize(
    "fault", [Fault.body({"instance_id": "eu.1"}), Fault.status(403, "<html>"), Fault.body("welcome")]
)
async def test_only_a_certain_refusal_is_called_failed(fault: Fault) -> None:
    simulator = Simulator()
    simulator.fail(POST, fault, times=None, when="after")
    simulator.fail(LIST, Fault.status(500), skip=1, times=None)  # the look before the launch is answered
    async with session_on(simulator, deploy=DeployPolicy(watch=30), close_timeout=0) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 1))
    assert str(report) == "1 unknown"
    assert type(report.unknown[0].error) is UncertainDeployError
    assert [instance.name for instance in simulator.live()] == ["exp-0"]


async def test_a_failing_fallback_function_is_certain() -> None:
    simulator = Simulator()
    simulator.sell_out(simulator.catalog.find("container").id)

    def broken(spec: Spec) -> Spec:
        raise ZeroDivisionError

    async with session_on(simulator) as fluence:
        specs = many(simulator, 1, plan_id=simulator.catalog.find("container", "v100").id)
        simulator.fail(POST, Fault.status(400, {"detail": "Plan is no longer available"}))
        with pytest.raises(ZeroDivisionError):
            async with fluence.launch(specs, fallback=broken) as launch:
                await launch.complete()
        assert len(launch.report.failed) == 1
