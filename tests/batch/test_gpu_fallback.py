"""Plans by GPU type: the cheapest plan that fits, the next when it is sold out, and waits for capacity.

On virtual time. The simulator's ledger shows which plans were billed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import attrs
import pytest

from aiofluence import (
    BareMetalSpec,
    ConfigError,
    ContainerSpec,
    DeployPolicy,
    InstanceRef,
    LaunchError,
    NoReplyError,
    NotSentError,
    PlanUnavailableError,
    Retry,
    Session,
    SpecError,
    VMSpec,
)
from aiofluence.models.specs import Spec
from aiofluence.simulator import Fault, Provisioning, Simulator, run_virtual

from ..harness import IMAGE, SSH_KEY, VIRTUAL, container_spec, next_tick, now, session_on
from ..lifecycle.test_custody import _tick

POST = "POST /gpu/instances/"
PLANS = "GET /gpu/plans/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(provisioning=Provisioning(median=100, sigma=0.0))


def spec(name: str = "exp-{i}", **fields: Any) -> ContainerSpec:
    return ContainerSpec(name=name, image=IMAGE, expose=[22], ssh_key=SSH_KEY, **fields)


def plan(simulator: Simulator, gpu: str, count: int = 1) -> str:
    return simulator.catalog.find("container", gpu, count).id


def rented(simulator: Simulator) -> dict[str, int]:
    return Counter(instance.offer.model for instance in simulator.live())


def sell_out(simulator: Simulator, *gpus: str) -> None:
    for offer in simulator.catalog.offers.values():
        if offer.model in gpus:
            simulator.sell_out(offer.id)


async def test_the_next_gpu_follows_a_sold_out_one(simulator: Simulator) -> None:
    simulator.set_capacity(plan(simulator, "rtx4090"), 2)
    simulator.set_capacity(plan(simulator, "l4"), 2)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(spec().many(5), gpu=["RTX 4090", "l4", "a100"])
        assert [outcome.spec.gpu for outcome in report.ready] == [("RTX 4090", "l4", "a100")] * 5
    # Of the A100 plans, the cheapest. No spec has taken four RTX 4090.
    assert rented(simulator) == {"rtx4090": 2, "l4": 2, "a100": 1}
    assert simulator.spent() == 2 * Decimal("0.44") + 2 * Decimal("0.43") + Decimal("0.86")
    assert simulator.count(PLANS) <= 3


@pytest.mark.parametrize("verb", ["deploy", "deploy_and_wait", "ensure", "running", "launch"])
async def test_each_verb_takes_the_cheapest_plan(simulator: Simulator, verb: str) -> None:
    specs: list[Spec] = [
        spec("one", gpu="h100"),
        VMSpec(name="vm", ssh_key=SSH_KEY, gpu="h100", min_vram="80Gi", location="Norway"),
        BareMetalSpec(name="metal", ssh_key=SSH_KEY, min_vram="80Gi", gpu_count=8),
    ]
    async with session_on(simulator) as fluence:
        for each in specs:
            if verb == "deploy":
                resources: Any = {"container": fluence.containers, "vm": fluence.vms}
                await resources.get(each.kind, fluence.baremetal).deploy(each)
            elif verb == "deploy_and_wait":
                await fluence.deploy_and_wait(each)
            elif verb == "ensure":
                assert isinstance(await fluence.ensure(each), InstanceRef)
            elif verb == "launch":
                async with fluence.launch([each]) as launch:
                    await anext(launch)
        if verb == "running":
            async with fluence.running(specs[0]), fluence.running(specs[1]), fluence.running(specs[2]):
                found = simulator.live()
        else:
            found = simulator.live()
    catalog = simulator.catalog
    assert [instance.offer for instance in found] == [
        catalog.find("container", "h100"),
        min(
            (o for o in catalog.offers.values() if (o.kind, o.model, o.gpu_count) == ("vm", "h100", 1)),
            key=lambda offer: ("norway" not in offer.locations[0], offer.hourly),
        ),
        min(
            (o for o in catalog.offers.values() if (o.kind, o.gpu_count, o.vram_gi) == ("baremetal", 8, 80)),
            key=lambda offer: offer.hourly,
        ),
    ]
    machine: Any = found[1]
    assert machine.os_image == machine.offer.os_options[0]


async def test_the_price_at_the_deploy_counts(simulator: Simulator) -> None:
    offers = simulator.catalog.offers
    cheap = plan(simulator, "rtx4090")
    async with session_on(simulator) as fluence:
        any_card = spec("a", min_vram="24Gi", max_hourly="0.45")
        await fluence.containers.deploy(any_card)  # an RTX A5000 at 0.26
        simulator.sell_out(plan(simulator, "rtxa5000"))
        await asyncio.sleep(6)
        offers[cheap] = attrs.evolve(offers[cheap], hourly=Decimal("0.40"))
        await fluence.containers.deploy(attrs.evolve(any_card, name="b"))
        offers[cheap] = attrs.evolve(offers[cheap], hourly=Decimal("0.50"))
        await asyncio.sleep(6)
        await fluence.containers.deploy(attrs.evolve(any_card, name="c"))
    assert rented(simulator) == {"rtxa5000": 1, "rtx4090": 1, "l4": 1}


async def test_all_unfit_specs_are_named_at_once(simulator: Simulator) -> None:
    specs: list[Spec] = [
        *spec(gpu="rtx4900").many(2),
        spec("dear", gpu="h100", max_hourly="0.10"),
        spec("fine", gpu="t4"),
        VMSpec(name="vm", ssh_key=SSH_KEY, gpu="h100", os_image="Ubuntu 2.04"),
    ]
    async with session_on(simulator) as fluence:
        with pytest.raises(PlanUnavailableError) as caught:
            await fluence.deploy_all_and_wait(specs)
        said = str(caught.value)
        assert "exp-0, exp-1: nothing for rent fits" in said
        assert "close to it: rtx4090" in said
        assert "dear: nothing for rent fits" in said
        assert "without max_hourly=0.10: 1x h100" in said
        assert "without os_image=Ubuntu 2.04" in said
        assert "fine" not in said
        assert said.endswith("nothing was deployed")
        with pytest.raises(PlanUnavailableError, match="close to it: rtx4090"):
            await fluence.deploy_and_wait(spec("one", gpu="rtx4900"))
        with pytest.raises(ConfigError, match="gpu_count is a whole number"):
            await fluence.deploy_and_wait(spec("one", gpu="t4", gpu_count=0))
        with pytest.raises(SpecError, match="plan_id: required; or gpu"):
            await fluence.deploy_and_wait(spec("one"))
        with pytest.raises(SpecError, match="plan_id: this request needs it"):
            await fluence.containers.post(spec("one", gpu="t4"))
        wrong: Any = "soon"
        with pytest.raises(ConfigError, match="wait_for_capacity is a number"):
            await fluence.deploy_all_and_wait(spec(gpu="t4").many(2), wait_for_capacity=wrong)
    assert simulator.count(POST) == 0
    assert simulator.ledger == ()


async def test_gpus_come_before_fallbacks(simulator: Simulator) -> None:
    simulator.set_capacity(plan(simulator, "rtx4090"), 1)
    simulator.set_capacity(plan(simulator, "l4"), 1)
    options: dict[str, Any] = {"gpu": ["rtx4090", "l4"], "fallback": plan(simulator, "l40s"), "min_ready": 4}
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match=r"4 specs cost 1\.76 USDC an hour, over max_hourly=1\.70"):
            await fluence.deploy_all_and_wait(spec().many(4), max_hourly="1.70", **options)
        # The quorum is out of reach: two L40S would cost 2.63 with the others.
        with pytest.raises(LaunchError, match="3 of at least 4 could become ready"):
            await fluence.deploy_all_and_wait(spec().many(4), max_hourly="2.62", **options)
    assert simulator.live() == []
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(spec("b-{i}").many(4), max_hourly="2.63", **options)
        assert report.hourly_cost == Decimal("2.63")
    assert rented(simulator) == {"rtx4090": 1, "l4": 1, "l40s": 2}


async def test_a_plan_id_comes_before_the_gpus(simulator: Simulator) -> None:
    simulator.set_capacity(plan(simulator, "v100"), 1)
    specs = spec(plan_id=plan(simulator, "v100"), gpu="t4").many(2)
    async with session_on(simulator) as fluence:
        await fluence.deploy_all_and_wait(specs)
        # A function may return a spec without a plan.
        sell_out(simulator, "v100")
        other = spec("other", plan_id=plan(simulator, "v100"))
        await fluence.deploy_all_and_wait(
            [other], fallback=lambda spec: attrs.evolve(spec, plan_id="", gpu="l4", name="renamed")
        )
    assert rented(simulator) == {"v100": 1, "t4": 1, "l4": 1}
    assert {instance.name for instance in simulator.live()} == {"exp-0", "exp-1", "renamed"}


async def test_a_fleet_waits_for_capacity(simulator: Simulator) -> None:
    sell_out(simulator, "t4")
    async with session_on(simulator) as fluence:
        loop, began = asyncio.get_running_loop(), now()
        loop.call_later(1000, simulator.restock, plan(simulator, "t4"))
        launching = fluence.deploy_all_and_wait(
            [*spec(gpu="t4").many(40), *spec("now-{i}", gpu="l4").many(3)],
            timeout=300,
            wait_for_capacity=1800,
        )
        report = await launching
        assert len(report.ready) == 43
        assert 1100 <= now() - began <= 1120
        # 40 waiting specs cost one request of the plans every 15 seconds, and no POST.
        assert simulator.count(PLANS) <= 1000 / 15 + 3
        assert simulator.count(POST) == 43
        # The others did not wait for them.
        assert all((o.times.ready or 999) < 120 for o in report.ready if o.spec.gpu == ("l4",))
    assert rented(simulator) == {"t4": 40, "l4": 3}


async def test_scarce_capacity_costs_few_posts(simulator: Simulator) -> None:
    simulator.set_capacity(plan(simulator, "t4"), 5)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(spec(gpu="t4").many(100), wait_for_capacity=600)
        assert (len(report.ready), len(report.failed)) == (5, 95)
        assert {type(outcome.error) for outcome in report.failed} == {PlanUnavailableError}
    assert simulator.count(POST) <= 100 + 5
    assert simulator.count(PLANS) <= 600 / 15 + 5


async def test_a_single_deploy_waits_for_its_plan(simulator: Simulator) -> None:
    only = spec("one", plan_id=plan(simulator, "t4"))
    sell_out(simulator, "t4")
    async with session_on(simulator) as fluence:
        began = now()
        with pytest.raises(PlanUnavailableError, match="no longer available"):
            await fluence.deploy_and_wait(only, wait_for_capacity=100)
        assert now() - began == pytest.approx(100, abs=2)
        posts = simulator.count(POST)
        asyncio.get_running_loop().call_later(50, simulator.restock, plan(simulator, "t4"))
        async with fluence.running(only, timeout=120, wait_for_capacity=100):
            assert rented(simulator) == {"t4": 1}
            assert simulator.count(POST) == posts + 2
        # A live instance of the name needs no plan.
        await fluence.deploy_and_wait(only)
        sell_out(simulator, "t4")
        same = await fluence.ensure(spec("one", gpu="t4"), wait_for_capacity=100)
        assert same.name == "one"
    assert rented(simulator) == {"t4": 1}


async def test_cancelled_while_waiting_sends_nothing(simulator: Simulator) -> None:
    sell_out(simulator, "t4")
    async with session_on(simulator) as fluence:
        for work in (
            fluence.deploy_and_wait(spec("one", gpu="t4"), wait_for_capacity=900),
            fluence.deploy_all_and_wait(spec(gpu="t4").many(40), wait_for_capacity=900),
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(100):
                    await work
        simulator.restock(plan(simulator, "t4"))
        await asyncio.sleep(100)
    assert simulator.count(POST) == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("lag", [0.0, 60.0])
async def test_an_unclear_post_is_never_paid_twice(when: Any, lag: float) -> None:
    simulator = Simulator(list_lag=lag)
    first = plan(simulator, "rtx4090")
    simulator.set_capacity(first, 1)  # sold out as soon as the unclear POST has created its instance
    simulator.fail(POST, Fault.reset(), when=when)
    async with session_on(simulator, deploy=DeployPolicy(settle=90)) as fluence:
        selling = asyncio.get_running_loop().call_later(30, simulator.sell_out, first)
        instance = await fluence.deploy_and_wait(spec("one", gpu=("rtx4090", "l4")))
        selling.cancel()
    assert [each.id for each in simulator.live()] == [instance.id]
    assert len(simulator.instances()) == 1
    assert rented(simulator) == ({"l4": 1} if when == "before" else {"rtx4090": 1})


async def test_an_unreadable_catalogue_costs_nothing(simulator: Simulator) -> None:
    async with session_on(simulator) as fluence:
        simulator.fail(PLANS, Fault.status(500), times=None)
        with pytest.raises(NotSentError, match="no plan could be chosen"):
            await fluence.deploy_and_wait(spec("one", gpu="t4"))
        report = await fluence.deploy_all_and_wait([container_spec(simulator, "fixed")], gpu="l4")
        assert len(report.ready) == 1
    assert rented(simulator) == {"t4": 1}


async def test_deploys_share_an_unreadable_catalogue(simulator: Simulator) -> None:
    simulator.fail(PLANS, Fault.status(500), times=None)
    async with session_on(simulator, retry=Retry(attempts=1)) as fluence:
        deploys = (fluence.deploy_and_wait(each) for each in spec(gpu="l4").many(20))
        errors = await asyncio.gather(*deploys, return_exceptions=True)
    assert {type(error) for error in errors} == {NotSentError}
    assert simulator.count(PLANS) == 1
    assert simulator.count(POST) == 0


async def test_a_closed_session_stops_a_wait_for_plans(simulator: Simulator) -> None:
    sell_out(simulator, "l4")
    async with session_on(simulator) as fluence:
        wait = asyncio.ensure_future(fluence.deploy_and_wait(spec("exp-1", gpu="l4"), wait_for_capacity=9000))
        await asyncio.sleep(100)
    with pytest.raises((NotSentError, NoReplyError)):
        await wait
    assert now() < 200
    assert simulator.instances() == []


async def test_many_single_deploys_share_the_catalogue(simulator: Simulator) -> None:
    async def one(fluence: Session, each: ContainerSpec) -> None:
        await fluence.deploy_and_wait(each)

    async with session_on(simulator) as fluence:
        await asyncio.gather(*(one(fluence, each) for each in spec(gpu="t4").many(30)))
    assert rented(simulator) == {"t4": 30}
    assert simulator.count(PLANS) == 1


@pytest.mark.parametrize("many", [False, True])
def test_cancelled_at_any_tick_none_is_left(many: bool) -> None:
    """Cancel a deploy at its n-th step, while its plans are chosen, refused and replaced."""

    async def run(ticks: int) -> bool:
        simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
        gone = Fault.status(400, {"detail": "Plan is no longer available"})
        simulator.fail(POST, gone, times=2)
        simulator.fail(POST, Fault.reset(), when="after", skip=2)
        each = spec("one", gpu=("rtx4090", "l4", "t4"))
        async with session_on(simulator, close_timeout=900) as fluence:
            work: Any = fluence.deploy_all_and_wait([each]) if many else fluence.deploy_and_wait(each)
            task = asyncio.ensure_future(work)
            for _ in range(ticks):
                if task.done():
                    break
                await _tick()
            task.cancel()
            results: Any = await asyncio.gather(task, return_exceptions=True)
        is_cancelled = isinstance(results[0], asyncio.CancelledError)
        assert len(simulator.live()) == (0 if is_cancelled else 1)
        assert len(simulator.instances()) <= 1
        assert is_cancelled or rented(simulator) == {"t4": 1}
        return not is_cancelled

    ticks = 0
    while not run_virtual(lambda n=ticks: run(n)):  # type: ignore[misc]
        ticks = next_tick(ticks, 2)
    assert ticks > 10
