"""Launching many: what becomes of each, when all is called off, and that nothing is left behind.

On virtual time. What counts is the simulator's ledger: who is live after the close, and what was billed.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    Container,
    ContainerSpec,
    CustodyError,
    DeployPolicy,
    Eta,
    InstanceFailedError,
    InsufficientBalanceError,
    InvalidRequestError,
    LaunchError,
    LaunchProgress,
    LaunchState,
    Machine,
    Outcome,
    PlanUnavailableError,
    Poll,
    RateLimit,
    Report,
    Session,
    SpecError,
    Status,
    UnsupportedImageError,
    Until,
    VMSpec,
    WaitTimeoutError,
)
from aiofluence.models.specs import Spec
from aiofluence.simulator import Fault, Provisioning, Simulator, run_virtual

from ..harness import (
    HALF_A_CENT,
    ROOMY,
    SSH_KEY,
    VIRTUAL,
    baremetal_spec,
    container_spec,
    next_tick,
    session_on,
    vm_spec,
)
from ..lifecycle.test_custody import _tick

SLOW = Provisioning(median=150, sigma=0.0)
POST = "POST /gpu/instances/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def many(simulator: Simulator, count: int, **fields: Any) -> list[ContainerSpec]:
    return container_spec(simulator, "exp-{i}", **fields).many(count)


def live(simulator: Simulator) -> set[str]:
    return {instance.id for instance in simulator.live()}


def ids(outcomes: tuple[Outcome, ...]) -> set[str]:
    return {outcome.ref.id for outcome in outcomes if outcome.ref is not None}


async def test_all_kinds_are_reported_in_order() -> None:
    simulator = Simulator()
    specs: list[Spec] = [
        vm_spec(simulator),
        *many(simulator, 3),
        baremetal_spec(simulator),
        container_spec(simulator, "last"),
    ]
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(specs, until=Until.READY)
        assert [outcome.spec for outcome in report.ready] == specs
        assert [outcome.index for outcome in report.outcomes] == list(range(6))
        assert [type(instance) for instance in report.instances] == [
            Machine,
            *[Container] * 3,
            Machine,
            Container,
        ]
        cost = sum(instance.bill.hourly for instance in simulator.live())
        assert abs(report.hourly_cost - cost) <= 6 * HALF_A_CENT
        assert str(report) == "6 active"
    assert live(simulator) == ids(report.ready)


async def test_outcomes_come_as_they_settle() -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.6))
    async with session_on(simulator, poll=Poll(interval=1)) as fluence:
        came = []
        async with fluence.launch(many(simulator, 8)) as launch:
            async for outcome in launch:
                came.append(outcome)
                assert outcome.instance is not None
                assert outcome.instance.status is Status.ACTIVE
                assert launch.report.ready == tuple(sorted(came, key=lambda outcome: outcome.index))
        order = [outcome.index for outcome in came]
        assert sorted(order) == list(range(8)) != order
        assert list(launch.report.outcomes) == sorted(came, key=lambda outcome: outcome.index)
    assert live(simulator) == ids(launch.report.ready)


async def test_one_failure_leaves_the_others_alone() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning(2)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 5))
    assert (len(report.ready), len(report.failed)) == (3, 2)
    for outcome in report.failed:
        assert isinstance(outcome.error, InstanceFailedError)
        assert outcome.error.ref == outcome.ref
        assert outcome.instance is None
    assert live(simulator) == ids(report.ready)
    assert simulator.spent() == 3 * Decimal("0.14")


async def test_every_problem_of_every_spec_is_named() -> None:
    simulator = Simulator()
    specs = [
        *many(simulator, 2),
        container_spec(simulator, "exp-1"),
        container_spec(simulator, "Bad", image=""),
    ]
    async with session_on(simulator) as fluence:
        with pytest.raises(SpecError) as caught:
            await fluence.deploy_all_and_wait(specs)
        assert len(caught.value.problems) == 3
        with pytest.raises(SpecError):
            await fluence.deploy_all_and_wait([container_spec(simulator, "exp-{i}")])
        for wrong in ({"min_ready": 5}, {"min_ready": -1}, {"on_failure": "x"}, {"timeout": -1}):
            with pytest.raises(ConfigError):
                await fluence.deploy_all_and_wait(many(simulator, 4), **wrong)
        assert await fluence.deploy_all_and_wait([], min_ready=0) == Report()
    assert simulator.requests == []


# A quorum


async def test_a_quorum_that_is_met_keeps_what_is_ready() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning(2)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 10), min_ready=8)
    assert str(report) == "8 active, 2 failed"
    assert live(simulator) == ids(report.ready)


async def test_an_unmet_quorum_takes_everything_back() -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.4))
    async with session_on(simulator) as fluence:
        specs = many(simulator, 10)
        simulator.fail_next_provisioning(3)
        with pytest.raises(LaunchError, match="7 of at least 8 could become ready") as caught:
            await fluence.deploy_all_and_wait(specs, min_ready=8)
        report = caught.value.report
        assert (len(report.failed), len(report.terminated), report.ready) == (3, 7, ())
        assert ids(report.terminated) == {i.id for i in simulator.instances() if i.failure is None}
        assert "exp-" in str(caught.value)
    assert simulator.live() == []
    assert simulator.reserved() == 0


async def test_no_hand_over_before_the_quorum() -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.5))
    states: Counter[str] = Counter()

    def hear(event: LaunchProgress) -> None:
        states.clear()
        states.update(event.counts)

    async with session_on(simulator) as fluence:
        async with fluence.launch(many(simulator, 6), min_ready=4, on_progress=hear) as launch:
            async for _ in launch:
                assert states[LaunchState.ACTIVE] >= 4
        assert len(launch.report.ready) == 6

        simulator.fail_next_provisioning(3)
        with pytest.raises(LaunchError):
            async with fluence.launch(container_spec(simulator, "x{i}").many(6), min_ready=4) as launch:
                async for _ in launch:
                    pytest.fail("handed over, and then taken back")
        assert len(launch.report.terminated) == 3
    assert {instance.name for instance in simulator.live()} == {f"exp-{i}" for i in range(6)}


async def test_an_unmet_quorum_may_keep_everything() -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.4))
    simulator.fail_next_provisioning(1)
    async with session_on(simulator) as fluence:
        with pytest.raises(LaunchError) as caught:
            await fluence.deploy_all_and_wait(many(simulator, 5), min_ready=5, on_failure="keep")
        report = caught.value.report
        assert report.terminated == ()
    assert live(simulator) == ids(report.ready + report.unknown)
    assert len(simulator.live()) == 4


# What dooms all


async def test_a_launch_called_off_sends_no_queued_spec() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(400, {"detail": "Insufficient balance"}))
    async with session_on(simulator, rate=RateLimit(10, 5)) as fluence:
        with pytest.raises(LaunchError):
            await fluence.deploy_all_and_wait(many(simulator, 60))
    assert simulator.count(POST) == 4  # of five turns at once, the look for the names took one
    assert simulator.live() == []


async def test_an_empty_account_stops_the_rest_at_once() -> None:
    simulator = Simulator(balance=Decimal("4.30"))  # 3 hours of 0.14, ten times
    async with session_on(simulator) as fluence:
        with pytest.raises(LaunchError, match="Insufficient balance") as caught:
            await fluence.deploy_all_and_wait(many(simulator, 200))
        assert isinstance(caught.value.__cause__, InsufficientBalanceError)
        report = caught.value.report
        assert len(report.outcomes) == 200
        assert len(report.terminated) + len(report.failed) == 200
        assert ids(report.terminated) <= {instance.id for instance in simulator.instances()}
        assert all(outcome.error is not None for outcome in report.failed)
        assert simulator.count(POST) <= 64  # those under way, and no more
    assert simulator.live() == []
    assert simulator.spent() <= 10 * Decimal("0.14")


async def test_a_launch_called_off_hands_over_nothing() -> None:
    simulator = Simulator(balance=Decimal("4.30"))
    async with session_on(simulator) as fluence:
        with pytest.raises(LaunchError):
            async with fluence.launch(many(simulator, 200)) as launch:
                async for outcome in launch:
                    pytest.fail(f"{outcome.spec.name} was handed over")
        assert len(launch.report.outcomes) == 200
    assert simulator.live() == []


async def test_an_empty_account_with_a_quorum() -> None:
    simulator = Simulator(balance=Decimal("4.30"))
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 200), min_ready=5)
        assert (len(report.ready), len(report.failed)) == (10, 190)
        assert {type(outcome.error) for outcome in report.failed} == {InsufficientBalanceError}
        assert simulator.count(POST) <= 64
    assert live(simulator) == ids(report.ready)


async def test_a_key_that_is_revoked_in_the_middle() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail(POST, Fault.status(401, {"detail": "revoked"}), skip=40, times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(LaunchError, match="revoked") as caught:
            await fluence.deploy_all_and_wait(many(simulator, 100), on_failure="keep")
        assert isinstance(caught.value.__cause__, AuthError)
        report = caught.value.report
        assert len(simulator.instances()) == 40
        assert live(simulator) == ids(report.unknown)
        assert len(report.failed) + len(report.unknown) == 100


async def test_a_dead_key_leaves_instances_unknown() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail("*", Fault.status(401, {"detail": "revoked"}), skip=40, times=None)
    with pytest.raises(CustodyError) as left:
        async with session_on(simulator) as fluence:
            with pytest.raises(LaunchError) as caught:
                await fluence.deploy_all_and_wait(many(simulator, 100))
    # Out here, for CustodyError would take the place of a failed assertion.
    assert caught.value.report.terminated == ()
    assert ids(caught.value.report.unknown) <= live(simulator)
    assert {ref.id for ref in left.value.refs} == live(simulator)


async def test_a_revoked_key_leaves_fifty_names() -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError, match="revoked") as left:
        async with session_on(simulator) as fluence:
            launching = asyncio.ensure_future(fluence.deploy_all_and_wait(many(simulator, 50)))
            await asyncio.sleep(60)
            simulator.fail("*", Fault.status(401, {"detail": "revoked"}), times=None)
            with pytest.raises(LaunchError, match="revoked") as caught:
                await launching
    assert len(caught.value.report.unknown) == 50
    assert ids(caught.value.report.unknown) == live(simulator)
    assert {ref.id for ref in left.value.refs} == live(simulator)


async def test_a_refused_spec_stops_similar_specs() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.status(422, {"detail": [{"loc": ["body", "image"], "msg": "no"}]}), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(LaunchError) as caught:
            await fluence.deploy_all_and_wait(many(simulator, 100))
        assert isinstance(caught.value.__cause__, InvalidRequestError)
    assert simulator.count(POST) <= 32


# Plans that are gone


async def test_falling_back_over_three_plans() -> None:
    simulator = Simulator()
    catalog = simulator.catalog
    first, second, third = (catalog.find("container", gpu).id for gpu in ("t4", "v100", "rtxa5000"))
    simulator.sell_out(first)
    simulator.sell_out(second)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 3), fallback=[second, third])
        assert {outcome.spec.plan_id for outcome in report.ready} == {third}
        assert [outcome.spec.name for outcome in report.ready] == ["exp-0", "exp-1", "exp-2"]
    assert {instance.offer.id for instance in simulator.live()} == {third}
    assert simulator.count(POST) == 9


async def test_no_failover_while_a_clean_up_has_failed() -> None:
    simulator = Simulator()
    first, second = (simulator.catalog.find("container", gpu).id for gpu in ("t4", "v100"))
    with pytest.raises(CustodyError):
        async with session_on(simulator) as fluence:
            left = await fluence.containers.deploy(container_spec(simulator, "left"))
            simulator.fail(f"GET /gpu/instances/{left.id}", Fault.status(403), times=None)
            with pytest.raises(AuthError):
                await fluence.terminate_and_wait(left)
            fluence._runtime.lifecycle.custodian.take(left)  # as any wait that ends badly gives it to him
            while not fluence._runtime.lifecycle.custodian.is_failing:
                await asyncio.sleep(1)
            simulator.sell_out(first)
            report = await fluence.deploy_all_and_wait(many(simulator, 2, plan_id=first), fallback=second)
            assert {type(outcome.error) for outcome in report.failed} == {PlanUnavailableError}
    assert [instance.name for instance in simulator.live()] == ["left"]


async def test_sold_out_everywhere() -> None:
    simulator = Simulator()
    for offer in simulator.catalog.offers.values():
        simulator.sell_out(offer.id)
    async with session_on(simulator) as fluence:
        other = simulator.catalog.find("container", "v100").id
        report = await fluence.deploy_all_and_wait(many(simulator, 3), fallback=other)
        assert {type(outcome.error) for outcome in report.failed} == {PlanUnavailableError}
        assert len(report.failed) == 3
        with pytest.raises(LaunchError, match="no longer available") as caught:
            await fluence.deploy_all_and_wait(many(simulator, 3), fallback=other, min_ready=1)
        assert len(caught.value.report.failed) == 3
    assert simulator.ledger == ()


async def test_a_fallback_may_be_an_offer_or_a_function() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        offers = await fluence.plans.find()
        specs: list[Spec] = [
            container_spec(simulator, "here", location="SG"),
            container_spec(simulator, "anywhere"),
            vm_spec(simulator),
        ]
        for spec in specs:
            simulator.sell_out(spec.plan_id)
        on_offers = await fluence.deploy_all_and_wait(specs, fallback=await fluence.plans.find())
        here, anywhere, vm = on_offers.outcomes
        assert isinstance(here.error, PlanUnavailableError)  # no other offer is in Singapore
        assert anywhere.spec.plan_id == next(o.plan_id for o in offers if o.name.startswith("v100"))
        assert isinstance(vm.spec, VMSpec)
        offer = next(offer for offer in offers if offer.plan_id == vm.spec.plan_id)
        assert vm.spec.os_image in offer.os_options

        def dearer(spec: Spec) -> Spec:
            return attrs.evolve(spec, name=f"{spec.name}-b", plan_id=anywhere.spec.plan_id)

        other = attrs.evolve(specs[1], name="elsewhere")
        report = await fluence.deploy_all_and_wait([other], fallback=dearer)
        assert [instance.name for instance in report.instances] == ["elsewhere-b"]


async def test_a_refused_fallback_stops_no_other_spec() -> None:
    simulator = Simulator()
    vm = vm_spec(simulator)
    machines = [offer for offer in simulator.catalog.offers.values() if offer.kind == "vm"]
    other = next(offer for offer in machines if vm.os_image not in offer.os_options)
    simulator.sell_out(vm.plan_id)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait([vm, *many(simulator, 2)], fallback=other.id)
    assert isinstance(report.outcomes[0].error, UnsupportedImageError)
    assert live(simulator) == ids(report.ready)
    assert len(report.ready) == 2


async def test_a_failing_fallback_calls_the_launch_off() -> None:
    simulator = Simulator()
    other = container_spec(simulator, "sold-out", plan_id=simulator.catalog.find("container", "v100").id)
    simulator.sell_out(other.plan_id)

    def broken(spec: Spec) -> Spec:
        raise ZeroDivisionError

    async with session_on(simulator) as fluence:
        with pytest.raises(ZeroDivisionError):
            async with fluence.launch([*many(simulator, 3), other], fallback=broken) as launch:
                async for _ in launch:
                    pass
        assert len(launch.report.failed) + len(launch.report.terminated) == 4
    assert simulator.live() == []


# Prices


async def test_the_price_is_checked_before_a_deploy() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match=r"1\.40 USDC an hour, over max_hourly=1\.39"):
            await fluence.deploy_all_and_wait(many(simulator, 10), max_hourly="1.39")
        with pytest.raises(
            PlanUnavailableError, match="exp-0, exp-1: no container plan nope is for rent now"
        ):
            await fluence.deploy_all_and_wait(many(simulator, 2, plan_id="nope"), max_hourly=100)
        with pytest.raises(ConfigError, match="amount of money"):
            await fluence.deploy_all_and_wait(many(simulator, 2), max_hourly="much")
        assert simulator.count(POST) == 0
        cost = Decimal("1.40") + simulator.catalog.find("vm").hourly
        specs: list[Spec] = [*many(simulator, 10), vm_spec(simulator)]
        report = await fluence.deploy_all_and_wait(specs, max_hourly=cost)
        assert abs(report.hourly_cost - cost) <= HALF_A_CENT


async def test_no_fallback_goes_over_the_price() -> None:
    simulator = Simulator()
    dear, cheap = (simulator.catalog.find("container", gpu).id for gpu in ("h100", "v100"))  # 1.62 and 0.22
    simulator.sell_out(simulator.catalog.find("container", "t4").id)
    async with session_on(simulator) as fluence:
        # Not for sale when it begins: the first fallback that is counts, and is sent at once.
        report = await fluence.deploy_all_and_wait(
            many(simulator, 2), max_hourly="0.44", fallback=[cheap, dear]
        )
        assert report.hourly_cost == Decimal("0.44")
        assert simulator.count(POST) == 2
        with pytest.raises(ConfigError, match="over max_hourly"):
            await fluence.deploy_all_and_wait(many(simulator, 2), max_hourly="0.44", fallback=[dear])

        # Gone between the look and the deploy.
        specs = container_spec(simulator, "late-{i}", plan_id=cheap).many(3)
        simulator.fail(POST, Fault.status(400, {"detail": "Plan is no longer available"}), times=2)
        late = await fluence.deploy_all_and_wait(specs, max_hourly="2.10", fallback=[dear])
        assert late.hourly_cost == Decimal("1.84")  # one dear, one cheap; two dear would be too much
        assert [type(outcome.error) for outcome in late.failed] == [PlanUnavailableError]

        # To the cent; and what has failed does not count any more.
        specs = container_spec(simulator, "last-{i}", plan_id=cheap).many(3)
        simulator.fail(POST, Fault.status(400, {"detail": "Plan is no longer available"}), times=2)
        last = await fluence.deploy_all_and_wait(specs, max_hourly="3.46", fallback=[dear])
        assert last.hourly_cost == Decimal("3.46")
        specs = container_spec(simulator, "end-{i}", plan_id=cheap).many(2)
        simulator.fail(POST, Fault.status(400, {"detail": "No"}))
        simulator.fail(POST, Fault.reset(), when="before")
        simulator.fail(POST, Fault.status(400, {"detail": "Plan is no longer available"}))
        end = await fluence.deploy_all_and_wait(specs, max_hourly="1.62", fallback=[dear])
        assert end.hourly_cost == Decimal("1.62")


# Time


async def test_the_timeout_is_for_all_of_it() -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.5))
    loop = asyncio.get_running_loop()
    async with session_on(simulator) as fluence:
        began = loop.time()
        report = await fluence.deploy_all_and_wait(many(simulator, 12), timeout=150)
        assert loop.time() - began < 155
        assert {len(report.ready), len(report.terminated)} != {0, 12}
        assert {type(outcome.error) for outcome in report.terminated} == {WaitTimeoutError}
    assert live(simulator) == ids(report.ready)


async def test_kept_instances_can_be_resumed() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 2), timeout=60, on_failure="keep")
        assert ids(report.unknown) == live(simulator)
        for outcome in report.unknown:
            assert isinstance(outcome.error, WaitTimeoutError)
            instance = await outcome.error.resume()
            assert instance is not None
            assert instance.status is Status.ACTIVE


async def test_specs_unsent_at_the_timeout_cost_nothing() -> None:
    simulator = Simulator()
    simulator.fail(POST, Fault.slow(10), times=None)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 100), timeout=15)
        assert ids(report.terminated)
        assert {type(outcome.error) for outcome in report.failed} == {WaitTimeoutError}
        assert len(report.failed) == 36
        nothing = await fluence.deploy_all_and_wait(container_spec(simulator, "x{i}").many(3), timeout=0)
        assert len(nothing.failed) == 3
    assert simulator.count(POST) == 64
    assert simulator.live() == []


# Progress


async def test_progress_has_each_step_and_the_counts() -> None:
    simulator = Simulator()
    events: list[LaunchProgress] = []
    simulator.fail_next_provisioning()
    simulator.fail(POST, Fault.status(400, {"detail": "Plan is no longer available"}), skip=39)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 40), on_progress=events.append)
    assert str(report) == "38 active, 2 failed"
    counts = Counter({LaunchState.QUEUED: 40})
    state: dict[int, LaunchState] = {}
    for event in events:
        if event.index in state:
            counts[state[event.index]] -= 1
            counts[event.state] += 1
        state[event.index] = event.state
        assert {name: count for name, count in event.counts.items() if count} == +counts
        assert (event.ref is not None) == (event.state in ("provisioning", "active") or event.ref is not None)
        assert 0 <= event.eta < 900
    steps: dict[int, list[str]] = {}
    for event in events:
        steps.setdefault(event.index, []).append(event.state.value)
    assert Counter(map(tuple, steps.values())) == {
        ("queued", "posting", "provisioning", "active"): 38,
        ("queued", "posting", "provisioning", "failed"): 1,
        ("queued", "posting", "failed"): 1,
    }
    assert events[-1].eta == 0


async def test_the_estimate_learns_and_has_a_range() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.1))
    heard: dict[str, Eta] = {}

    def hear(event: LaunchProgress) -> None:
        eta = event.estimate()
        heard[f"{event.spec.name} {event.state}"] = eta
        assert event.eta == eta.likely
        assert 0 <= eta.low <= eta.likely <= eta.high
        assert (eta.high > 0) == (event.counts["active"] < 20)

    async with session_on(simulator) as fluence:
        await fluence.deploy_all_and_wait(many(simulator, 20), on_progress=hear)
        first = heard["exp-0 queued"]
        assert first.low < 120 < first.high < 1800  # the range of the service's guides
        one = container_spec(simulator, "next")
        await fluence.deploy_all_and_wait([one], on_progress=hear, until="active")
    # The session has learnt: most took 88 to 114 s.
    learnt = heard["next provisioning"]
    assert 80 < learnt.low < learnt.likely < learnt.high < 130


async def test_a_late_instance_is_shown_as_late() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.0))
    events: list[LaunchProgress] = []
    seen: list[Eta] = []
    async with session_on(simulator) as fluence:
        await fluence.deploy_all_and_wait(many(simulator, 20))
        simulator.provisioning = Provisioning(median=400, sigma=0.0)
        late = fluence.deploy_all_and_wait([container_spec(simulator, "late")], on_progress=events.append)
        launching = asyncio.create_task(late)
        for _ in range(39):
            await asyncio.sleep(10)
            seen.append(events[-1].estimate())
        assert (await launching).ready
    assert seen[5].late == ()
    assert 30 < seen[5].likely < 60
    assert all(eta.late == (0,) for eta in seen[15:])
    assert all(eta.likely >= 1 and eta.high > 10 for eta in seen)
    assert "1 late" in str(seen[-1])
    assert events[-1].estimate() == Eta()


async def test_a_progress_that_raises_costs_no_instance(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()

    def broken(event: LaunchProgress) -> None:
        raise ZeroDivisionError

    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 3), on_progress=broken)
    assert len(report.ready) == 3
    assert "on_progress failed" in caplog.text


# Leaving early


class _OutError(Exception):
    pass


async def leave_by_break(fluence: Session, simulator: Simulator) -> list[Outcome]:
    held = []
    async with fluence.launch(many(simulator, 8)) as launch:
        async for outcome in launch:
            held.append(outcome)
            if len(held) == 3:
                break
    return held


async def leave_by_exception(fluence: Session, simulator: Simulator) -> list[Outcome]:
    held = []
    with pytest.raises(_OutError):
        async with fluence.launch(many(simulator, 8)) as launch:
            held.append(await anext(launch))
            raise _OutError
    return held


async def leave_by_timeout(fluence: Session, simulator: Simulator) -> list[Outcome]:
    held = []
    with anyio.move_on_after(140):
        async with fluence.launch(many(simulator, 8)) as launch:
            while True:
                held.append(await anext(launch))
    return held


async def leave_without_a_look(fluence: Session, simulator: Simulator) -> list[Outcome]:
    async with fluence.launch(many(simulator, 8)):
        await asyncio.sleep(1000)
    return []


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_exception, leave_by_timeout, leave_without_a_look]
)
async def test_the_rest_is_ended_at_the_exit(
    leave: Callable[[Session, Simulator], Awaitable[list[Outcome]]],
) -> None:
    simulator = Simulator(provisioning=Provisioning(median=150, sigma=0.5))
    async with session_on(simulator) as fluence:
        held = await leave(fluence, simulator)
        assert 0 <= len(held) < 8
    assert live(simulator) == ids(tuple(held))
    assert len(simulator.instances()) == 8


async def test_leaving_early_may_keep_everything() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        async with fluence.launch(many(simulator, 4), on_failure="keep") as launch:
            await asyncio.sleep(60)
        assert ids(launch.report.unknown) == live(simulator)
    assert len(simulator.live()) == 4


async def test_a_launch_is_entered_once() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        launch = fluence.launch(many(simulator, 1))
        with pytest.raises(ConfigError):
            await anext(launch)
        async with launch:
            report = await launch.complete()
        with pytest.raises(ConfigError):
            await launch.__aenter__()
        with pytest.raises(StopAsyncIteration):
            await anext(launch)
    assert live(simulator) == ids(report.ready)


async def test_a_closing_session_waits_for_its_launch() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        launching = asyncio.ensure_future(fluence.deploy_all_and_wait(many(simulator, 3)))
        await asyncio.sleep(20)
    report = await launching
    assert live(simulator) == ids(report.ready)
    assert len(report.ready) == 3


# The sweep


class _HandedOverError(Exception):
    def __init__(self, ids: set[str]) -> None:
        self.ids = ids


async def in_deploy_all(fluence: Session, simulator: Simulator, held: set[str]) -> None:
    report = await fluence.deploy_all_and_wait(many(simulator, 3))
    held |= ids(report.ready)


async def in_launch(fluence: Session, simulator: Simulator, held: set[str]) -> None:
    async with fluence.launch(many(simulator, 3)) as launch:
        async for outcome in launch:
            held |= ids((outcome,))


async def in_quorum(fluence: Session, simulator: Simulator, held: set[str]) -> None:
    simulator.fail_next_provisioning(2)
    with pytest.raises(LaunchError):
        await fluence.deploy_all_and_wait(many(simulator, 4), min_ready=3, max_hourly=10)


FAULTS = [None, "after", "before"]


@pytest.mark.parametrize("use", [in_deploy_all, in_launch, in_quorum])
@pytest.mark.parametrize("fault", FAULTS)
def test_cancelled_at_any_tick_nothing_is_left(
    use: Callable[[Session, Simulator, set[str]], Awaitable[None]], fault: Any
) -> None:
    """Cancel the caller at its n-th step, for each n of `next_tick` until it gets through."""

    async def run(ticks: int) -> bool:
        simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.3))
        if fault is not None:
            simulator.fail(POST, Fault.reset(), when=fault, skip=1)
        held: set[str] = set()
        policy = DeployPolicy(settle=30, watch=45)  # short, since each poll is a step more to leave at
        async with session_on(simulator, close_timeout=900, deploy=policy) as fluence:
            task = asyncio.ensure_future(use(fluence, simulator, held))
            for _ in range(ticks):
                if task.done():
                    break
                await _tick()
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert result is None or isinstance(result, asyncio.CancelledError), result
        assert live(simulator) == held
        names = Counter(instance.name for instance in simulator.live())
        assert not names or max(names.values()) == 1
        return result is None

    ticks = FAULTS.index(fault)
    while not run_virtual(lambda n=ticks: run(n)):  # type: ignore[misc]
        ticks = next_tick(ticks, len(FAULTS))
    assert ticks > 10


async def test_cancelled_again_while_it_leaves() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail(POST, Fault.hang(), when="after", skip=2)
    async with session_on(simulator) as fluence:

        async def use() -> None:
            async with fluence.launch(many(simulator, 8), on_failure="keep") as launch:
                async for _ in launch:
                    pass

        task = asyncio.ensure_future(use())
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.sleep(1)
        assert not task.done()  # one answer is under way, and what is kept must be known
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert len(simulator.live()) == 8


# Many, and trouble


async def test_hundreds() -> None:
    simulator = Simulator(balance=10_000, provisioning=Provisioning(failure_rate=0.02), profile=ROOMY)
    async with session_on(simulator, poll=Poll(interval=60)) as fluence:
        specs: list[Spec] = [*many(simulator, 490), *vm_spec(simulator, "vm-{i}").many(10)]
        report = await fluence.deploy_all_and_wait(specs, timeout=1800)
        assert [outcome.spec for outcome in report.outcomes] == specs
        assert 0 < len(report.failed) < 50
        assert len(report.ready) + len(report.failed) == 500
    assert live(simulator) == ids(report.ready)
    assert len(simulator.instances()) == 500


@pytest.mark.parametrize("seed", range(5))
async def test_each_exactly_once_whatever_goes_wrong(seed: int) -> None:
    simulator = Simulator(seed, provisioning=Provisioning(failure_rate=0.1))
    simulator.random_faults(0.15, seed=seed)
    async with session_on(simulator, close_timeout=3000) as fluence:
        report = await fluence.deploy_all_and_wait(many(simulator, 40), timeout=3000)
    assert live(simulator) == ids(report.ready)
    assert max(Counter(instance.name for instance in simulator.live()).values()) == 1


async def test_no_secret_leaves_with_the_error() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning()
    secret = "canary-16180339"
    async with session_on(simulator) as fluence:
        specs: list[Spec] = [
            *many(
                simulator,
                2,
                environment={"TOKEN": secret},
                startup_command=secret,
                ssh_key=f"{SSH_KEY} {secret}",
            ),
            vm_spec(simulator, ssh_key=f"{SSH_KEY} {secret}"),
        ]
        with pytest.raises(LaunchError) as caught:
            await fluence.deploy_all_and_wait(specs, min_ready=3, on_failure="keep")
        assert secret not in f"{caught.value} {vars(caught.value)!r}"
        other = pickle.loads(pickle.dumps(caught.value))
        assert secret.encode() not in pickle.dumps(caught.value)
        assert str(other) == str(caught.value)
        assert [o.ref for o in other.report.outcomes] == [o.ref for o in caught.value.report.outcomes]
